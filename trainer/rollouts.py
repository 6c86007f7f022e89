"""Completions of a rollout, sampled by the studio's own forward pass instead of `generate` of transformers.

`generate` runs the modules that are trained: every token goes through the adapters one by one, and its cache is copied whenever
it grows. Here the weights, with the adapter added to them, are laid out once a rollout for `ranker.backends.lean`; what all
prompts begin with is computed once, a prompt that comes again is not computed again, and rows that end make room.

What is learnt from is the trained model's own log-probabilities; the sampler's are handed over beside them, so that their
difference can be seen. If they differ by more than rounding, the job ends with an error instead of learning off policy.
`writer_for` chooses; TRL calls the `Writer` as its `rollout_func`. Imports torch. Ours.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import torch
from accelerate.utils import is_peft_model

from ranker.backends.forward import Forward, extend_rows
from ranker.backends.kv import KeyValueRows
from ranker.backends.lean import LeanForward, knows
from ranker.backends.passes import make_lean
from ranker.backends.tokentree import NO_LINE
from ranker.errors import JobError
from trainer.loading import without_adapter

ROW_BYTES: Final = 2 << 30
"""Memory for keys and values; what does not fit is written afterwards."""
_PASS_TOKENS: Final = {"cpu": 2048, "cuda": 32768}
"""Of one pass over prompts."""
_SHARED_TOKENS: Final = 32
"""Prompts that begin with so many equal tokens share as much as they have in common."""
_TOLERANCE: Final = {torch.float32: 0.01, torch.bfloat16: 0.15}
"""Mean difference of log-probabilities, in nats a token."""


class Completion(NamedTuple):
    """What was sampled behind a prompt, the end token included where it came."""

    ids: list[int]
    log_probs: list[float]
    """At the temperature of the sampling."""


class Writer:
    """TRL's `rollout_func`: prompts -> ids of prompts and completions, and log-probabilities."""

    def __init__(self, prompt_ids: Callable[[str], list[int]], *, max_tokens: int, temperature: float) -> None:
        self._prompt_ids, self._max_tokens, self._temperature = prompt_ids, max_tokens, temperature
        self._is_checked = False

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        """Raises JobError if the sampler does not agree with the model that is trained."""
        ids = [self._prompt_ids(prompt) for prompt in prompts]
        model = trainer.accelerator.unwrap_model(trainer.model)
        with torch.inference_mode():
            forward, rows = _lay_out(model, len(ids))
            completions = sample(
                forward,
                rows,
                ids,
                max_tokens=self._max_tokens,
                temperature=self._temperature,
                end_ids=frozenset(trainer.eos_token_ids),
            )
        if not self._is_checked:
            self._check(model, ids[0], completions[0])
            self._is_checked = True
        return {
            "prompt_ids": ids,
            "completion_ids": [c.ids for c in completions],
            "logprobs": [c.log_probs for c in completions],
        }

    def _check(self, model: Any, prompt: list[int], completion: Completion) -> None:
        """The first completion against the modules that are trained."""
        ids = torch.tensor([[*prompt, *completion.ids]], device=model.device)
        with torch.no_grad():
            logits = model(input_ids=ids, logits_to_keep=len(completion.ids) + 1).logits[0, :-1].float()
        expected = (logits / self._temperature).log_softmax(-1).gather(1, ids[0, len(prompt) :, None])[:, 0]
        found = torch.tensor(completion.log_probs, device=model.device)
        difference = float((found - expected).abs().mean())
        if not difference <= _TOLERANCE.get(model.dtype, 0.15):
            raise JobError(
                f"ppo.rollouts: studio: samples another policy than the one that is trained (log-probabilities differ by "
                f"{difference:.2g} nats a token): set ppo.rollouts to transformers"
            )


def can_write(model: Any) -> bool:
    """Whether the studio's own forward pass knows the model, with or without an adapter."""
    return knows(without_adapter(model))


@contextmanager
def frozen_weights_kept(model: Any) -> Iterator[None]:
    """Put the weights below an adapter back as they were.

    TRL hands vLLM merged weights by adding the adapter to them in place and taking it off again; in half precision that leaves other
    weights than before, rollout after rollout.
    """
    is_exact = not is_peft_model(model) or model.dtype is torch.float32
    frozen = [] if is_exact else [p for p in model.parameters() if not p.requires_grad]
    kept = [parameter.detach().cpu().clone() for parameter in frozen]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, before in zip(frozen, kept, strict=True):
                parameter.copy_(before)


def sample(
    forward: Forward,
    rows: KeyValueRows,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    temperature: float,
    end_ids: frozenset[int],
) -> list[Completion]:
    """A completion of each prompt, drawn with torch's global generator; `rows` limits how many are written at once.

    Args:
        prompts: ids, at least one each; equal ones are computed once.
        max_tokens: of a completion.
        temperature: above 0.
        end_ids: tokens that end a completion and are part of it.
    """
    order = sorted(range(len(prompts)), key=lambda k: list(prompts[k]))  # equal beginnings become neighbours
    longest = max(map(len, prompts)) + max_tokens
    size = max(1, rows.rows_at(longest, 0) - 1)
    found: dict[int, Completion] = {}
    for lot in (order[at : at + size] for at in range(0, len(order), size)):
        written = _Lot(forward, rows, [prompts[k] for k in lot], temperature, end_ids).write(max_tokens)
        found |= zip(lot, written, strict=True)
    return [found[k] for k in range(len(prompts))]


class _Lot:
    """Completions that are written together. Row r of the memory holds number `self._running[r]`."""

    def __init__(
        self,
        forward: Forward,
        rows: KeyValueRows,
        prompts: Sequence[Sequence[int]],
        temperature: float,
        end_ids: frozenset[int],
    ) -> None:
        self._forward, self._rows, self._prompts = forward, rows, prompts
        self._temperature, self._end_ids = temperature, end_ids
        self._running = list(range(len(prompts)))
        self._device = rows.data.device
        self._done = [Completion([], []) for _ in prompts]

    def write(self, max_tokens: int) -> list[Completion]:
        self._rows.grow(max(map(len, self._prompts)) + max_tokens, 0)
        hidden = self._read_prompts()
        positions = torch.tensor([len(prompt) for prompt in self._prompts], device=self._device)
        for _ in range(max_tokens - 1):
            ids, stays = self._take(hidden)
            ids, positions = self._drop_ended(ids, positions, stays)
            if not self._running:
                return self._done
            end = int(positions.max()) + 1
            hidden = self._forward.step(ids, positions, end, self._rows, is_ragged=len(self._running) > 1)
            positions = positions + 1
        self._take(hidden)
        return self._done

    def _take(self, hidden: torch.Tensor) -> tuple[torch.Tensor, list[bool]]:
        """Draw the next token of each running row from (B, E); returns the ids (B,), and which rows go on."""
        log_probs = (self._forward.logits(hidden).float() / self._temperature).log_softmax(-1)
        ids = torch.multinomial(log_probs.exp(), 1)
        chosen = log_probs.gather(1, ids)[:, 0].tolist()
        drawn: list[int] = ids[:, 0].tolist()
        for number, token_id, log_prob in zip(self._running, drawn, chosen, strict=True):
            self._done[number].ids.append(token_id)
            self._done[number].log_probs.append(log_prob)
        return ids[:, 0], [token_id not in self._end_ids for token_id in drawn]

    def _drop_ended(
        self, ids: torch.Tensor, positions: torch.Tensor, stays: list[bool]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Free the rows that ended; the last ones take their places."""
        if all(stays):
            return ids, positions
        lengths: list[int] = positions.tolist()
        kept = [row for row, stay in enumerate(stays) if stay]
        places = list(range(len(kept)))
        for target in [row for row in places if not stays[row]]:
            source = kept.pop()
            self._rows.move(source, target, lengths[source])
            kept.insert(target, source)  # rows in front of `target` all stay
        self._running = [self._running[row] for row in kept]
        picked = torch.tensor(kept, dtype=torch.int64, device=self._device)
        return ids[picked], positions[picked]

    # ---- prompts -----------------------------------------------------------------------------------------------------

    def _read_prompts(self) -> torch.Tensor:
        """Keys and values of all prompts into the rows; hidden states (B, E) of their last tokens."""
        prompts = self._prompts
        first = [row for row in range(len(prompts)) if row == 0 or prompts[row] != prompts[row - 1]]
        start = self._read_shared(first)
        hidden = torch.cat([self._read_rests(lot, start) for lot in self._passes(first, start)])
        owner = -1
        owners = []
        for row in range(len(prompts)):
            if owner + 1 < len(first) and first[owner + 1] == row:
                owner += 1
            else:
                self._rows.move(first[owner], row, len(prompts[row]))
            owners.append(owner)
        return hidden[torch.tensor(owners, device=self._device)]

    def _read_shared(self, rows: Sequence[int]) -> dict[int, int]:
        """Compute what neighbours begin with, in the first of them, and copy it; returns how much each row holds then."""
        start: dict[int, int] = {}
        for _, group in itertools.groupby(rows, key=lambda row: tuple(self._prompts[row][:_SHARED_TOKENS])):
            members = list(group)
            least = min(len(self._prompts[row]) for row in members) - 1
            shared = _num_common(self._prompts[members[0]], self._prompts[members[-1]], least)
            if len(members) == 1 or shared < _SHARED_TOKENS:
                shared = 0
            else:
                self._extend(members[0], [self._prompts[members[0]][:shared]], [0])
                for row in members[1:]:
                    self._rows.move(members[0], row, shared)
            start |= dict.fromkeys(members, shared)
        return start

    def _passes(self, rows: Sequence[int], start: dict[int, int]) -> Iterator[list[int]]:
        """Neighbouring rows that are computed in one pass: no more than so many tokens."""
        limit = _PASS_TOKENS[self._device.type]
        lot: list[int] = []
        for row in rows:
            together = [*lot, row]
            longest = max(len(self._prompts[r]) - start[r] for r in together)
            if lot and (row != lot[-1] + 1 or longest * len(together) > limit):
                yield lot
                together = [row]
            lot = together
        yield lot

    def _read_rests(self, rows: Sequence[int], start: dict[int, int]) -> torch.Tensor:
        """What stands behind the shared beginning; hidden states (B, E) of the last tokens."""
        starts = [start[row] for row in rows]
        rests = [self._prompts[row][at:] for row, at in zip(rows, starts, strict=True)]
        hidden = self._extend(rows[0], rests, starts)
        last = torch.tensor([len(rest) - 1 for rest in rests], device=self._device)
        return hidden[torch.arange(len(rows), device=self._device), last]

    def _extend(self, first: int, rests: Sequence[Sequence[int]], starts: Sequence[int]) -> torch.Tensor:
        """(B, L, E) of tokens behind what rows from `first` on hold."""
        self._rows.grow(max(starts) + max(map(len, rests)), first + len(rests))
        return extend_rows(
            self._forward, self._rows, first, [(at, r, NO_LINE) for at, r in zip(starts, rests, strict=True)]
        )


def _lay_out(model: Any, num_rows: int) -> tuple[LeanForward, KeyValueRows]:
    """The policy as it is now, and memory for what it writes, of no more rows than that and one."""
    plain = without_adapter(model)
    device = next(plain.parameters()).device
    dtype = torch.float32 if device.type == "cpu" else plain.dtype
    forward = make_lean(plain, matrices=plain.dtype, weight_of=lambda module: _merged_weight(module).to(dtype))
    config = plain.config.get_text_config()
    budget = ROW_BYTES if device.type == "cpu" else int(0.5 * torch.cuda.mem_get_info(device)[0])
    return forward, KeyValueRows(config, num_rows + 1, dtype=dtype, device=device, max_bytes=budget)


def _merged_weight(module: Any) -> torch.Tensor:
    """A module's weights with its low-rank updates added, in the precision of the sum."""
    weight: torch.Tensor = module.weight.detach()
    for name in getattr(module, "active_adapters", ()):
        if name in module.lora_A:
            weight = weight + module.get_delta_weight(name).detach()
    return weight


def _num_common(a: Sequence[int], b: Sequence[int], limit: int) -> int:
    """How many ids two prompts begin with alike, at most `limit`."""
    return next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if k == limit or x != y), limit)
