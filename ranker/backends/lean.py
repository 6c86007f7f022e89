"""The forward pass of the Llama family in as few operations as PyTorch allows: the same function, from the same weights.

transformers decodes one token at 50 to 75 ms a call where reading the weights takes 30: the rest is some 1,500 small
operations. Here a layer is 15:

    one matrix for queries, keys and values, one for gate and up; the norms' weights and the attention scale are in them
    rotary embedding as one complex product (the rows of the matrix are reordered so that pairs are neighbours)
    keys and values go into the engine's rows by one indexed copy
    on a CPU every matrix is laid out once for oneDNN, which is faster than MKL at every batch size that was measured

In half precision the norms' weights and the scale stay out of the matrices, which would be rounded a second time by them, and
on a GPU logits come as float32 out of the last matrix product: rounded to bfloat16 they would tie.

On a CPU that multiplies bfloat16 (AVX512-BF16, AMX) the matrices may be bfloat16 while all else stays in float32: what goes into a
product and what comes out is rounded, sums of residuals, norms, attention, keys and values are not. That is half of the memory that
a token has to read, at less than the error of a model in bfloat16. Logits come as differences from a usual best one: rounding is
relative, so what is near the best, and decides, keeps its digits.

On other CPUs the matrices may be float16, which FBGEMM multiplies float32 by: sums and all else stay in float32, and a token reads half of
the memory here too.

It takes the weights out of a model of transformers (so adapters are merged as they are for the reference), and `ranker.backends.passes` checks
it against that. How it compares: `python launch.py bench`. Imports torch. Ours.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch.nn import functional

from ranker.backends.forward import Forward
from ranker.backends.kv import ALL, KeyValueRows, tree_mask

KNOWN: Final = frozenset({"llama", "mistral", "qwen2", "qwen3"})
_PACKED_FOR_ROWS: Final = 512  # oneDNN's layout for many rows is the fastest one for few rows too
_BLOCK: Final = 256  # tokens of a prompt that look together: what lies behind them all is not multiplied
_CHECK_LENGTH: Final = 12

Linear = Callable[[torch.Tensor], torch.Tensor]
WeightOf = Callable[[Any], torch.Tensor]


def plain_weight(module: Any) -> torch.Tensor:
    """A module's weights as they are."""
    weight: torch.Tensor = module.weight.detach()
    return weight


class _Layer(NamedTuple):
    qkv: Linear
    out: Linear
    gate_up: Linear
    down: Linear
    head_norm: torch.Tensor | None
    """(H + 2 H_kv, D): weights of the norms over each head's queries and keys (Qwen 3)."""
    norms: tuple[torch.Tensor | None, torch.Tensor | None]
    """Weights of the norms before attention and before the rest, where they are not in the matrices."""


class _View(NamedTuple):
    """What some tokens of a pass see."""

    tokens: slice
    seen: int
    """Columns, from the first on."""
    bias: torch.Tensor
    """(B, 1, G * L, `seen`): 0, or minus infinity where they may not look."""


class LeanForward:
    """See the module. Shapes: B or L rows of E; H query heads, H_kv key heads, head dimension D."""

    def __init__(self, model: Any, *, matrices: torch.dtype | None = None, weight_of: WeightOf = plain_weight) -> None:
        """
        Args:
            model: a causal language model of transformers, of a type in `KNOWN`.
            matrices: precision in which the matrices are kept; None = that of the weights.
            weight_of: a module's weights as they are to be taken, all in one precision: that is what all else is computed in.
        """
        config, decoder = model.config.get_text_config(), model.get_decoder()
        self._weight_of = weight_of
        self._num_heads, self._num_kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._embedding = weight_of(decoder.embed_tokens)
        self.dtype: Final = self._embedding.dtype
        self.device: Final = self._embedding.device
        self._matrices: Final = matrices or self.dtype
        self._is_folded = self._embedding.dtype is torch.float32
        self._scale = 1.0 if self._is_folded else float(decoder.layers[0].self_attn.scaling)
        self._rms_epsilon = float(config.rms_norm_eps)
        self._epsilon = torch.tensor(config.rms_norm_eps, dtype=torch.float32, device=self._embedding.device)
        self._layers = [self._fuse(layer) for layer in decoder.layers]
        self._norm = weight_of(decoder.norm)
        rotary = decoder.rotary_emb
        self._frequencies, self._rotary_scale = rotary.inv_freq.float(), float(rotary.attention_scaling)
        head = model.get_output_embeddings()
        self._head = _wide_linear(weight_of(head), self._bias(head), self._matrices)
        if self._matrices is torch.bfloat16 and self.dtype is not torch.bfloat16:
            less = _usual_best_logit(self, model)
            self._head = _linear(weight_of(head), self._bias(head), self._matrices, less=less)

    def extend(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        columns: torch.Tensor,
        mask: torch.Tensor,
        rows: KeyValueRows,
        first: int,
    ) -> torch.Tensor:
        batch, length = ids.shape
        x, turns = self._embedding[ids.flatten()], self._turns(positions.flatten())
        owners = torch.arange(first, first + batch, device=ids.device)[:, None].expand(-1, length)
        places = self._places(owners.flatten(), columns.flatten(), rows)
        views = self._views(columns, mask)
        for index, layer in enumerate(self._layers):
            heads = self._heads(layer, x, turns)  # (B * L, H + 2 H_kv, D)
            stored = rows.data[index]  # (2, rows, H_kv, capacity, D)
            self._store(stored, places, heads)
            queries = heads[:, : self._num_heads].view(batch, length, self._num_heads, self._head_dim)
            attended = self._look(queries, stored[:, first : first + batch], views)
            x = self._rest(layer, x, attended.reshape(batch * length, -1))
        return self._normed(x, self._norm).view(batch, length, -1)

    def step(
        self, ids: torch.Tensor, positions: torch.Tensor, end: int, rows: KeyValueRows, *, is_ragged: bool
    ) -> torch.Tensor:
        batch = len(ids)
        x, turns = self._embedding[ids], self._turns(positions)
        places = self._places(torch.arange(batch, device=x.device), positions, rows)
        bias = torch.zeros((), dtype=x.dtype, device=x.device)
        if is_ragged:
            hidden = torch.arange(end, device=x.device)[None] > positions[:, None]  # (B, S)
            bias = torch.zeros(hidden.shape, dtype=x.dtype, device=x.device).masked_fill_(hidden, float("-inf"))
            bias = bias[:, None].expand(-1, self._num_kv_heads, -1).flatten(0, 1)[:, None]  # (B * H_kv, 1, S)
        for index, layer in enumerate(self._layers):
            heads = self._heads(layer, x, turns)  # (B, H + 2 H_kv, D)
            stored = rows.data[index]  # (2, rows, H_kv, capacity, D)
            self._store(stored, places, heads)
            keys, values = (part[:batch, :, :end].flatten(0, 1) for part in stored)  # (B * H_kv, S, D), no copy
            queries = heads[:, : self._num_heads].reshape(batch * self._num_kv_heads, -1, self._head_dim)
            if is_ragged or self._scale != 1.0:
                weights = torch.baddbmm(bias, queries, keys.mT, alpha=self._scale)
            else:
                weights = torch.bmm(queries, keys.mT)
            x = self._rest(layer, x, torch.bmm(weights.softmax(-1), values).view(batch, -1))
        return self._normed(x, self._norm)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Up to a constant, where products are in bfloat16 and the model is not: probabilities are the same."""
        return self._head(hidden)

    # ---- pieces ------------------------------------------------------------------------------------------------------

    def _heads(self, layer: _Layer, x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
        """Rotated queries and keys, and values as they are: (rows, H + 2 H_kv, D)."""
        heads = layer.qkv(self._normed(x, layer.norms[0])).view(len(x), -1, self._head_dim)
        if layer.head_norm is not None:
            num_normed = self._num_heads + self._num_kv_heads
            normed = self._normed(heads[:, :num_normed].reshape(-1, self._head_dim)).view(len(x), num_normed, -1)
            heads = torch.cat([normed * layer.head_norm, heads[:, num_normed:]], 1)
        pairs = torch.view_as_complex(heads.float().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * turns).flatten(-2).to(x.dtype)

    def _views(self, columns: torch.Tensor, mask: torch.Tensor) -> list[_View]:
        """What tokens (B, L) in `columns` see of the rows, by `mask` (B, L, S), in blocks on a CPU: no token looks beyond its own column."""
        length, end = mask.shape[1:]
        size = _BLOCK if columns.device.type == "cpu" else length
        views = []
        for start in range(0, length, size):
            block = slice(start, min(start + size, length))
            seen = end if block.stop == length else min(end, int(columns[:, block].max()) + 1)
            hidden = ~mask[:, block, :seen]
            bias = torch.zeros(hidden.shape, dtype=self.dtype, device=mask.device).masked_fill_(hidden, float("-inf"))
            # the heads that share keys become rows of one: (B, 1, G * L, S)
            views.append(_View(block, seen, bias.repeat(1, self._num_heads // self._num_kv_heads, 1)[:, None]))
        return views

    def _look(self, queries: torch.Tensor, stored: torch.Tensor, views: Sequence[_View]) -> torch.Tensor:
        """What queries (B, L, H, D) attend to in rows (2, B, H_kv, capacity, D): (B, L, H_kv, G, D)."""
        parts = []
        for block, seen, bias in views:
            keys, values = stored[..., :seen, :]  # (B, H_kv, S, D), no copy
            by_kept = queries[:, block].unflatten(2, (self._num_kv_heads, -1))
            grouped = by_kept.permute(0, 2, 3, 1, 4)  # (B, H_kv, G, L, D)
            attended = functional.scaled_dot_product_attention(
                grouped.flatten(2, 3), keys, values, attn_mask=bias, scale=self._scale
            )
            parts.append(attended.unflatten(2, grouped.shape[2:4]).permute(0, 3, 1, 2, 4))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def _store(self, stored: torch.Tensor, places: torch.Tensor, heads: torch.Tensor) -> None:
        """Put keys and values of (rows, H + 2 H_kv, D) into a layer (2, rows, H_kv, capacity, D)."""
        stored.view(-1, self._head_dim).index_copy_(0, places, heads[:, self._num_heads :].flatten(0, 1))

    def _rest(self, layer: _Layer, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """The rest of a layer, from what its heads attended to: (rows, E)."""
        x = x + layer.out(attended)
        gate, up = layer.gate_up(self._normed(x, layer.norms[1])).chunk(2, -1)
        return x + layer.down(functional.silu(gate) * up)

    def _normed(self, x: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """x / RMS(x), in float32, times the norm's weight where that is not in the matrix that follows."""
        if not self._is_folded:
            return functional.rms_norm(x, (x.shape[-1],), weight, self._rms_epsilon)
        wide = x.float()
        mean_square = torch.add(self._epsilon, torch.linalg.vecdot(wide, wide), alpha=1 / x.shape[-1])
        normed = (wide * mean_square.rsqrt()[:, None]).to(x.dtype)
        return normed if weight is None else normed * weight

    def _turns(self, positions: torch.Tensor) -> torch.Tensor:
        """Complex numbers (rows, H + 2 H_kv, D / 2) that turn queries and keys by their position, and values not at all."""
        turned = self._turn(positions)[:, None]
        num_turned = self._num_heads + self._num_kv_heads
        still = torch.ones_like(turned).expand(-1, self._num_kv_heads, -1)
        return torch.cat([turned.expand(-1, num_turned, -1), still], 1)

    def _turn(self, positions: torch.Tensor) -> torch.Tensor:
        """Complex numbers (rows, D / 2) of positions (rows,)."""
        angles = positions[:, None].float() * self._frequencies
        return torch.polar(torch.full_like(angles, self._rotary_scale), angles)

    def _places(self, owners: torch.Tensor, columns: torch.Tensor, rows: KeyValueRows) -> torch.Tensor:
        """Where keys and values of tokens (N,) in rows `owners` go in a layer, seen as a list of heads: (N * 2 * H_kv,)."""
        kind = torch.arange(2, device=columns.device)[None, :, None]
        head = torch.arange(self._num_kv_heads, device=columns.device)[None, None]
        row = kind * rows.num_rows + owners[:, None, None]
        return ((row * self._num_kv_heads + head) * rows.capacity + columns[:, None, None]).flatten()

    # ---- weights -----------------------------------------------------------------------------------------------------

    def _fuse(self, layer: Any) -> _Layer:
        """One layer's matrices, with the norms' weights, the attention scale and the order of pairs worked in."""
        attention, mlp, weight_of = layer.self_attn, layer.mlp, self._weight_of
        scale = float(attention.scaling) if self._is_folded else 1.0
        q_norm: Any = getattr(attention, "q_norm", None)
        k_norm: Any = getattr(attention, "k_norm", None)
        parts = [attention.q_proj, attention.k_proj, attention.v_proj]
        order = [True, True, False]
        weights, biases = [weight_of(p) for p in parts], [self._bias(p) for p in parts]
        has_bias = any(bias is not None for bias in biases)
        biases = [torch.zeros_like(w[:, 0]) if b is None else b for w, b in zip(weights, biases, strict=True)]
        weights, biases = (
            [self._paired(x) if o else x for x, o in zip(found, order, strict=True)] for found in (weights, biases)
        )
        head_norm = None
        if q_norm is None:
            weights[0], biases[0] = weights[0] * scale, biases[0] * scale
        else:
            norms = [
                self._paired(weight_of(q_norm) * scale).expand(self._num_heads, -1),
                self._paired(weight_of(k_norm)).expand(self._num_kv_heads, -1),
            ]
            head_norm = torch.cat(norms)
        gates = [mlp.gate_proj, mlp.up_proj]
        qkv, gate_up = torch.cat(weights), torch.cat([weight_of(p) for p in gates])
        before, between = weight_of(layer.input_layernorm), weight_of(layer.post_attention_layernorm)
        if self._is_folded:
            qkv, gate_up = qkv * before, gate_up * between
        gate_up_bias = None if mlp.gate_proj.bias is None else torch.cat([self._bias(p) for p in gates])
        return _Layer(
            qkv=_linear(qkv, torch.cat(biases) if has_bias else None, self._matrices),
            out=self._linear(attention.o_proj),
            gate_up=_linear(gate_up, gate_up_bias, self._matrices),
            down=self._linear(mlp.down_proj),
            head_norm=head_norm,
            norms=(None, None) if self._is_folded else (before, between),
        )

    def _linear(self, module: Any) -> Linear:
        return _linear(self._weight_of(module), self._bias(module), self._matrices)

    def _bias(self, module: Any) -> torch.Tensor | None:
        return None if module.bias is None else module.bias.detach().to(self.dtype)

    def _paired(self, rows: torch.Tensor) -> torch.Tensor:
        """Reorder each head's outputs so that the two of a rotary pair (d and d + D / 2) are neighbours."""
        half = self._head_dim // 2
        heads = rows.reshape(-1, 2, half, *rows.shape[1:])
        return heads.transpose(1, 2).reshape(rows.shape)


def knows(model: Any) -> bool:
    """Whether a causal language model of transformers is of a kind that `LeanForward` computes."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    is_known = config.model_type in KNOWN and config.hidden_act == "silu" and kinds == {"full_attention"}
    return is_known and "dynamic" not in str(getattr(model.get_decoder().rotary_emb, "rope_type", "default"))


def _usual_best_logit(lean: LeanForward, model: Any) -> float:
    """The mean of the best logits over the text of the check, as a whole number, which bfloat16 holds exactly."""
    return float(check_logits(lean, model, lean.dtype).amax(-1).mean().clamp(-256, 256).round())


def check_logits(forward: Forward, model: Any, dtype: torch.dtype) -> torch.Tensor:
    """Logits over a short text, computed as a prefix, a tree of three, and one step of two rows."""
    config, device = model.config.get_text_config(), next(model.parameters()).device
    ids = ((torch.arange(_CHECK_LENGTH, device=device) * 37 + 11) % config.vocab_size)[None]
    rows = KeyValueRows(config, 2, dtype=dtype, device=device)
    rows.grow(_CHECK_LENGTH, 0)
    at = torch.arange(_CHECK_LENGTH, device=device)[None]
    causal = torch.ones(1, 6, 6, dtype=torch.bool, device=device).tril()
    hidden = [forward.extend(ids[:, :6], at[:, :6], at[:, :6], causal, rows, 0)[0]]
    ends = torch.tensor([[ALL, ALL, ALL, 10, 11]], device=device)
    tree = tree_mask(at[:, 6:-1], ends, _CHECK_LENGTH - 1)
    positions = torch.tensor([[6, 7, 8, 9, 9]], device=device)
    hidden.append(forward.extend(ids[:, 6:-1], positions, at[:, 6:-1], tree, rows, 0)[0])
    rows.move(0, 1, 6)
    last = torch.tensor([_CHECK_LENGTH - 1, 6], device=device)
    hidden.append(forward.step(ids[0, [-1, 6]], last, _CHECK_LENGTH, rows, is_ragged=True))
    return forward.logits(torch.cat(hidden)).float()


def _linear(weight: torch.Tensor, bias: torch.Tensor | None, matrices: torch.dtype, *, less: float = 0.0) -> Linear:
    """x -> x W^T + b; on a CPU in the layout that oneDNN or FBGEMM likes best, which is kept instead of W.

    `less`: in narrower products, what is taken from every sum before it is rounded.
    """
    weight = weight.detach().contiguous()
    if weight.device.type != "cpu" or weight.dtype is not torch.float32:
        return lambda x: functional.linear(x, weight, bias)
    if matrices is torch.float16:
        halved = torch.ops.quantized.linear_prepack_fp16(weight, bias)
        return lambda x: torch.ops.quantized.linear_dynamic_fp16(x, halved)
    if not torch.backends.mkldnn.is_available():
        return lambda x: functional.linear(x, weight, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.to(matrices), _PACKED_FOR_ROWS)
    if matrices is torch.float32:
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    taken = torch.full((len(weight),), -less, dtype=matrices) if less else None

    def rounded(x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x.to(matrices), packed, taken, "none", [], "").float()
        return y if bias is None else y + bias

    return rounded


def _wide_linear(weight: torch.Tensor, bias: torch.Tensor | None, matrices: torch.dtype) -> Linear:
    """As `_linear`, its sums in float32: on a GPU in half precision they are handed over as they are."""
    if weight.device.type != "cuda" or weight.dtype is torch.float32 or bias is not None:
        return _linear(weight, bias, weight.dtype if matrices is torch.bfloat16 else matrices)
    transposed = weight.detach().T
    return lambda x: torch.mm(x, transposed, out_dtype=torch.float32)
