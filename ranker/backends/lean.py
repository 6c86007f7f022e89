"""The forward pass of the Llama family in as few operations as PyTorch allows: the same function, from the same weights.

transformers decodes one token at 50 to 75 ms a call where reading the weights takes 30: the rest is some 1,500 small
operations. Here a layer is 15:

    one matrix for queries, keys and values, one for gate and up; the norms' weights and the attention scale are in them
    rotary embedding as one complex product (the rows of the matrix are reordered so that pairs are neighbours)
    keys and values go into the engine's rows by one indexed copy
    on a CPU every matrix is laid out once for oneDNN, which is faster than MKL at every batch size that was measured

`make_lean` takes the weights out of a model of transformers (so adapters are merged as they are for the reference) and checks
itself against it; what it does not know, it leaves alone. How it compares: `python launch.py bench`. Imports torch. Ours.
"""

import logging
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from torch.nn import functional

from ranker.backends.forward import TransformersForward
from ranker.backends.kv import KeyValueRows, tree_mask

log = logging.getLogger(__name__)

KNOWN: Final = frozenset({"llama", "mistral", "qwen2", "qwen3"})
_PACKED_FOR_ROWS: Final = 512  # oneDNN's layout for many rows is the fastest one for few rows too
_CHECK_LENGTH: Final = 12
_TOLERANCE: Final = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}

Linear = Callable[[torch.Tensor], torch.Tensor]


class _Layer(NamedTuple):
    qkv: Linear
    out: Linear
    gate_up: Linear
    down: Linear
    head_norm: torch.Tensor | None
    """(H + 2 H_kv, D): weights of the norms over each head's queries and keys (Qwen 3)."""


class LeanForward:
    """See the module. Shapes: B or L rows of E; H query heads, H_kv key heads, head dimension D."""

    def __init__(self, model: Any) -> None:
        config, decoder = model.config.get_text_config(), model.get_decoder()
        self._num_heads, self._num_kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._embedding = decoder.embed_tokens.weight
        self._epsilon = torch.tensor(config.rms_norm_eps, dtype=torch.float32, device=self._embedding.device)
        self._layers = [self._fuse(layer) for layer in decoder.layers]
        self._norm = decoder.norm.weight
        head = model.get_output_embeddings()
        self._head = _linear(head.weight, head.bias)
        rotary = decoder.rotary_emb
        self._frequencies, self._rotary_scale = rotary.inv_freq.float(), float(rotary.attention_scaling)

    def row(
        self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, rows: KeyValueRows, row: int, start: int
    ) -> torch.Tensor:
        end = start + len(ids)
        x, turns = self._embedding[ids], self._turns(positions)
        bias = torch.zeros(mask.shape, dtype=x.dtype, device=x.device).masked_fill_(~mask, float("-inf"))
        for index, layer in enumerate(self._layers):
            heads = self._heads(layer, x, turns)  # (L, H + 2 H_kv, D)
            stored = rows.data[index, :, row, :, :end]  # (2, H_kv, S, D)
            stored[:, :, start:] = heads[:, self._num_heads :].unflatten(1, (2, -1)).permute(1, 2, 0, 3)
            attended = functional.scaled_dot_product_attention(
                heads[None, :, : self._num_heads].transpose(1, 2),
                stored[0][None],
                stored[1][None],
                attn_mask=bias[None, None],
                scale=1.0,
                enable_gqa=True,
            )  # (1, H, L, D)
            x = self._rest(layer, x, attended[0].transpose(0, 1).flatten(1))
        return self._normed(x) * self._norm

    def step(self, ids: torch.Tensor, positions: torch.Tensor, rows: KeyValueRows) -> torch.Tensor:
        batch, longest = len(ids), int(positions.max()) + 1
        x, turns = self._embedding[ids], self._turns(positions)
        places = self._places(positions, rows)
        bias = None
        if batch > 1:
            hidden = torch.arange(longest, device=x.device)[None] > positions[:, None]  # (B, S)
            bias = torch.zeros(hidden.shape, dtype=x.dtype, device=x.device).masked_fill_(hidden, float("-inf"))
            bias = bias.repeat_interleave(self._num_kv_heads, 0)[:, None]  # (B * H_kv, 1, S)
        for index, layer in enumerate(self._layers):
            heads = self._heads(layer, x, turns)  # (B, H + 2 H_kv, D)
            stored = rows.data[index]  # (2, rows, H_kv, capacity, D)
            stored.view(-1, self._head_dim).index_copy_(0, places, heads[:, self._num_heads :].flatten(0, 1))
            keys, values = (part[:batch, :, :longest].flatten(0, 1) for part in stored)  # (B * H_kv, S, D), no copy
            queries = heads[:, : self._num_heads].reshape(batch * self._num_kv_heads, -1, self._head_dim)
            weights = torch.bmm(queries, keys.mT) if bias is None else torch.baddbmm(bias, queries, keys.mT)
            x = self._rest(layer, x, torch.bmm(weights.softmax(-1), values).view(batch, -1))
        return self._normed(x) * self._norm

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self._head(hidden)

    # ---- pieces ------------------------------------------------------------------------------------------------------

    def _heads(self, layer: _Layer, x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
        """Rotated queries and keys, and values as they are: (rows, H + 2 H_kv, D)."""
        heads = layer.qkv(self._normed(x)).view(len(x), -1, self._head_dim)
        if layer.head_norm is not None:
            num_normed = self._num_heads + self._num_kv_heads
            normed = self._normed(heads[:, :num_normed].reshape(-1, self._head_dim)).view(len(x), num_normed, -1)
            heads = torch.cat([normed * layer.head_norm, heads[:, num_normed:]], 1)
        pairs = torch.view_as_complex(heads.float().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * turns).flatten(-2).to(x.dtype)

    def _rest(self, layer: _Layer, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """The rest of a layer, from what its heads attended to: (rows, E)."""
        x = x + layer.out(attended)
        gate, up = layer.gate_up(self._normed(x)).chunk(2, -1)
        return x + layer.down(functional.silu(gate) * up)

    def _normed(self, x: torch.Tensor) -> torch.Tensor:
        """x / RMS(x), in float32; the norm's weight is in the matrix that follows."""
        wide = x.float()
        mean_square = torch.add(self._epsilon, torch.linalg.vecdot(wide, wide), alpha=1 / x.shape[-1])
        return (wide * mean_square.rsqrt()[:, None]).to(x.dtype)

    def _turns(self, positions: torch.Tensor) -> torch.Tensor:
        """Complex numbers (rows, H + 2 H_kv, D / 2) that turn queries and keys by their position, and values not at all."""
        angles = positions[:, None].float() * self._frequencies  # (rows, D / 2)
        turned = torch.polar(torch.full_like(angles, self._rotary_scale), angles)[:, None]
        num_turned = self._num_heads + self._num_kv_heads
        still = torch.ones_like(turned).expand(-1, self._num_kv_heads, -1)
        return torch.cat([turned.expand(-1, num_turned, -1), still], 1)

    def _places(self, positions: torch.Tensor, rows: KeyValueRows) -> torch.Tensor:
        """Where the keys and values of one token a row go in a layer, seen as a list of heads: (B * 2 * H_kv,)."""
        device, num_rows = positions.device, rows.data.shape[2]
        kind = torch.arange(2, device=device)[None, :, None]
        row = torch.arange(len(positions), device=device)[:, None, None]
        head = torch.arange(self._num_kv_heads, device=device)[None, None]
        return (
            ((kind * num_rows + row) * self._num_kv_heads + head) * rows.capacity + positions[:, None, None]
        ).flatten()

    # ---- weights -----------------------------------------------------------------------------------------------------

    def _fuse(self, layer: Any) -> _Layer:
        """One layer's matrices, with the norms' weights, the attention scale and the order of pairs worked in."""
        attention, mlp = layer.self_attn, layer.mlp
        scale = float(attention.scaling)
        q_norm: Any = getattr(attention, "q_norm", None)
        k_norm: Any = getattr(attention, "k_norm", None)
        parts = [attention.q_proj, attention.k_proj, attention.v_proj]
        order = [True, True, False]
        weights = [self._paired(p.weight) if o else p.weight for p, o in zip(parts, order, strict=True)]
        biases = [_bias(p) for p in parts]
        biases = [self._paired(b) if o else b for b, o in zip(biases, order, strict=True)]
        head_norm = None
        if q_norm is None:
            weights[0], biases[0] = weights[0] * scale, biases[0] * scale
        else:
            norms = [
                self._paired(q_norm.weight * scale).expand(self._num_heads, -1),
                self._paired(k_norm.weight).expand(self._num_kv_heads, -1),
            ]
            head_norm = torch.cat(norms)
        has_bias = attention.q_proj.bias is not None
        gate_up = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]) * layer.post_attention_layernorm.weight
        gate_up_bias = None if mlp.gate_proj.bias is None else torch.cat([mlp.gate_proj.bias, mlp.up_proj.bias])
        return _Layer(
            qkv=_linear(torch.cat(weights) * layer.input_layernorm.weight, torch.cat(biases) if has_bias else None),
            out=_linear(attention.o_proj.weight, attention.o_proj.bias),
            gate_up=_linear(gate_up, gate_up_bias),
            down=_linear(mlp.down_proj.weight, mlp.down_proj.bias),
            head_norm=head_norm,
        )

    def _paired(self, rows: torch.Tensor) -> torch.Tensor:
        """Reorder each head's outputs so that the two of a rotary pair (d and d + D / 2) are neighbours."""
        half = self._head_dim // 2
        heads = rows.reshape(-1, 2, half, *rows.shape[1:])
        return heads.transpose(1, 2).reshape(rows.shape)


def make_lean(model: Any) -> LeanForward | None:
    """The lean pass of a loaded model; None where it does not know the architecture, or does not come to the same."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    is_known = config.model_type in KNOWN and config.hidden_act == "silu" and kinds == {"full_attention"}
    if not is_known or "dynamic" in str(getattr(model.get_decoder().rotary_emb, "rope_type", "default")):
        return None
    with torch.inference_mode():
        lean = LeanForward(model)
        difference = _difference(TransformersForward(model), lean, config, model)
    if difference > _TOLERANCE.get(model.dtype, 0.0):
        log.warning("the lean forward pass differs by %.2g from transformers: using transformers", difference)
        return None
    return lean


def _difference(reference: TransformersForward, lean: LeanForward, config: Any, model: Any) -> float:
    """Largest difference of log-probabilities over a short text, computed as a prefix, a tree of three, and one step."""
    device, found = next(model.parameters()).device, []
    ids = (torch.arange(_CHECK_LENGTH, device=device) * 37 + 11) % config.vocab_size
    for forward in (reference, lean):
        rows = KeyValueRows(config, 2, dtype=model.dtype, device=device)
        rows.grow(_CHECK_LENGTH, 0)
        first, rest = ids[:6], ids[6:-1]
        causal = torch.ones(6, 6, dtype=torch.bool, device=device).tril()
        hidden = [forward.row(first, torch.arange(6, device=device), causal, rows, 0, 0)]
        tree = tree_mask(6, 3, [1, 1], device)[0, 0]
        hidden.append(forward.row(rest, torch.tensor([6, 7, 8, 9, 9], device=device), tree, rows, 0, 6))
        hidden.append(forward.step(ids[-1:], torch.tensor([_CHECK_LENGTH - 1], device=device), rows))
        found.append(forward.logits(torch.cat(hidden)).float().log_softmax(-1))
    return float((found[0] - found[1]).abs().max())


def _bias(linear: Any) -> torch.Tensor:
    if linear.bias is not None:
        bias: torch.Tensor = linear.bias
        return bias
    return torch.zeros(linear.out_features, dtype=linear.weight.dtype, device=linear.weight.device)


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
    """x -> x W^T + b; on a CPU in the layout that oneDNN likes best, which is kept instead of W."""
    weight = weight.detach().contiguous()
    if weight.device.type != "cpu" or weight.dtype is not torch.float32 or not torch.backends.mkldnn.is_available():
        return lambda x: functional.linear(x, weight, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, _PACKED_FOR_ROWS)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
