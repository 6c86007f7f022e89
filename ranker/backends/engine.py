"""Continuous batching: many prompts in flight, each at its own position, one decoding step at a time.

The engine lives in the event loop of its callers. Between two steps it lets the loop run, so that whoever got an answer can
ask the next question before the next step: with the same requests in the same order, the batches are the same again.

Prefix cache. A prompt's prefix is always computed by itself and kept (least recently used go first), and so is everything
that a finished generation computed, under its text. A later prompt whose prefix is that text goes on from there. The ids of
that text are remembered apart from what was computed for them (a sampled text need not tokenise to the ids that were
sampled), so a cached and an uncached run see the same ids in the same pieces.

Scoring. All continuations are laid behind the prompt in one row; a mask hides them from each other and their positions all
begin where the prompt ends. One forward pass, no copy of the prompt per continuation. Ours.
"""

import asyncio
import heapq
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ranker.backends.base import Chunk, Finish, GenerateRequest, Prompt, ScoreRequest, Scores, Usage, too_long
from ranker.backends.forward import Forward, TransformersForward
from ranker.backends.kv import KeyValueRows, tree_mask
from ranker.backends.prefixes import PrefixCache
from ranker.backends.stops import end_of_stop
from ranker.errors import BackendError

_CLOSED = "engine: closed: load the model again"
_LOGIT_ROWS = 256  # positions whose full-vocabulary logits are held at once


@dataclass(frozen=True, kw_only=True)
class EngineLimits:
    """How much an engine takes on."""

    max_rows: int = 16
    """Sequences that decode together."""
    live_rows: int = 4
    """Rows beyond `max_rows` that only requests of priority 0 may take, so that a watched ranking never waits for bulk."""
    row_bytes: int = 3 << 30
    """Memory for the rows; longer prompts mean fewer rows."""
    prefix_bytes: int = 512 << 20
    """Memory for kept prefixes."""


@dataclass(kw_only=True, eq=False)
class _Job:
    """A call that waits or runs."""

    request: GenerateRequest | ScoreRequest
    num_tokens: int = 0  # room that a generation needs in its row
    results: asyncio.Queue[Chunk | Scores | BackendError] = field(default_factory=asyncio.Queue)
    is_withdrawn: bool = False


@dataclass(kw_only=True, eq=False)
class _Row:
    """A running generation. `ids`: prompt and completion; keys and values cover the first `length` of them."""

    job: _Job
    request: GenerateRequest
    text_stream: Any
    ids: list[int]
    length: int
    usage: Usage
    generator: torch.Generator | None
    text: str = ""
    num_tokens: int = 0


class Engine:
    """Runs a causal language model for any number of concurrent `generate` and `score` calls of one event loop."""

    def __init__(self, model: Any, tokenizer: Any, limits: EngineLimits, forward: Forward | None = None) -> None:
        """`forward` computes what `model` does; None = by the modules of `model` itself."""
        self._tokenizer, self._limits = tokenizer, limits
        self._forward = forward or TransformersForward(model)
        self._device = next(model.parameters()).device
        config = model.config.get_text_config()
        self.context_tokens = int(config.max_position_embeddings)
        num_rows = limits.max_rows + limits.live_rows + 1  # the row behind the running ones is for prefill and scores
        self._rows = KeyValueRows(config, num_rows, dtype=next(model.parameters()).dtype, device=self._device)
        self._end_ids = _end_ids(model, tokenizer)
        self._prefixes = PrefixCache(limits.prefix_bytes)
        self._running: list[_Row] = []
        self._waiting: list[tuple[int, int, _Job]] = []
        self._numbers = itertools.count()
        self._driver: asyncio.Task[None] | None = None
        self._is_closed = False

    # ---- what callers see --------------------------------------------------------------------------------------------

    def submit(self, request: GenerateRequest | ScoreRequest) -> _Job:
        """Queue a call; its results arrive in `job.results`. Raises BackendError if the engine is closed."""
        if self._is_closed:
            raise BackendError(_CLOSED)
        if self._driver is None or self._driver.done():
            self._running.clear()  # left over from an event loop that is gone
            self._waiting.clear()
            self._driver = asyncio.get_running_loop().create_task(self._drive())
            self._driver.add_done_callback(self._fail_outstanding)
        job = _Job(request=request)
        if isinstance(request, GenerateRequest):
            job.num_tokens = len(self._ids(request.prompt.prefix)) + len(self._ids(request.prompt.suffix))
            job.num_tokens += request.max_tokens
        heapq.heappush(self._waiting, (request.priority, next(self._numbers), job))
        return job

    def _fail_outstanding(self, driver: asyncio.Task[None]) -> None:
        """If the loop died (out of memory, say), nobody is left waiting for it."""
        if driver.cancelled() or driver.exception() is None:
            return
        reason = str(driver.exception()).strip().split("\n", 1)[0]
        self._turn_away(
            BackendError(f"engine: stopped: {reason}. Lower the number of rankings at once, or start again.")
        )

    def _turn_away(self, error: BackendError) -> None:
        for job in [row.job for row in self._running] + [job for _, _, job in self._waiting]:
            job.results.put_nowait(error)
        self._running.clear()
        self._waiting.clear()

    async def aclose(self) -> None:
        """Stop, and forget everything that was computed."""
        self._is_closed = True
        if self._driver is not None and self._driver.get_loop() is asyncio.get_running_loop():
            self._driver.cancel()
            await asyncio.gather(self._driver, return_exceptions=True)
            self._turn_away(BackendError(_CLOSED))
        self._prefixes.clear()

    # ---- the loop ----------------------------------------------------------------------------------------------------

    async def _drive(self) -> None:
        while self._waiting or self._running:
            with torch.inference_mode():  # never across an await: the mode belongs to the thread
                self._drop_withdrawn()
                self._admit()
                if self._running:
                    self._decode_step()
            for _ in range(3):  # callers take their results and submit what follows
                await asyncio.sleep(0)

    def _drop_withdrawn(self) -> None:
        if any(job.is_withdrawn for _, _, job in self._waiting):
            self._waiting = [w for w in self._waiting if not w[2].is_withdrawn]
            heapq.heapify(self._waiting)
        for index in reversed(range(len(self._running))):
            if self._running[index].job.is_withdrawn:
                self._release(index)

    def _admit(self) -> None:
        """Start what waits, in order of priority; while somebody watches, one thing between two tokens."""
        is_watched = any(row.request.priority == 0 for row in self._running)
        while self._waiting and self._has_room(self._waiting[0][2]):
            _, _, job = heapq.heappop(self._waiting)
            try:
                self._start(job)
            except BackendError as error:
                job.results.put_nowait(error)
            if is_watched:
                return

    def _has_room(self, job: _Job) -> bool:
        request = job.request
        if isinstance(request, ScoreRequest) or not self._running:
            return True
        rows = self._limits.max_rows + (self._limits.live_rows if request.priority == 0 else 0)
        needed_bytes = max(self._rows.capacity, job.num_tokens) * self._rows.bytes_per_token
        return len(self._running) < min(rows, self._limits.row_bytes // needed_bytes)

    def _start(self, job: _Job) -> None:
        if isinstance(job.request, ScoreRequest):
            job.results.put_nowait(self._score(job.request))
        else:
            self._prefill(job, job.request)

    # ---- generation --------------------------------------------------------------------------------------------------

    def _prefill(self, job: _Job, request: GenerateRequest) -> None:
        row = len(self._running)
        ids, start, cached = self._place_prompt(request.prompt, row, request.max_tokens)
        hidden = self._forward_row(row, start, ids[start:])
        generator = None
        if request.temperature > 0:
            generator = torch.Generator(self._device).manual_seed(request.seed)
        running = _Row(
            job=job,
            request=request,
            text_stream=_make_text_stream(),
            ids=ids,
            length=len(ids),
            usage=Usage(len(ids), cached, 0),
            generator=generator,
        )
        self._running.append(running)
        self._accept(running, self._sample(running, self._forward.logits(hidden[-1:])[0]))
        if running.job.is_withdrawn:
            self._release(row)

    def _decode_step(self) -> None:
        """One token for every running row."""
        rows = self._running
        positions = torch.tensor([row.length for row in rows], device=self._device)  # (B,)
        ids = torch.tensor([row.ids[-1] for row in rows], device=self._device)  # (B,)
        logits = self._forward.logits(self._forward.step(ids, positions, self._rows))  # (B, V)
        for index, row in enumerate(rows):
            row.length += 1
            self._accept(row, self._sample(row, logits[index]))
        for index in reversed(range(len(rows))):
            if rows[index].job.is_withdrawn:
                self._release(index)

    def _sample(self, row: _Row, logits: torch.Tensor) -> int:
        """The next id from (V,) logits: the arg max, or a draw at the request's temperature."""
        if row.generator is None:
            return int(logits.argmax())
        probabilities = (logits.float() / row.request.temperature).softmax(-1)
        return int(torch.multinomial(probabilities, 1, generator=row.generator))

    def _accept(self, row: _Row, token_id: int) -> None:
        """Take a sampled id into the row: stream its text, or end the completion."""
        row.num_tokens += 1
        usage = row.usage._replace(completion_tokens=row.num_tokens)
        if token_id in self._end_ids:
            self._finish(row, Chunk("", Finish.STOP, usage))
            return
        row.ids.append(token_id)
        piece = row.text_stream.step(self._tokenizer.backend_tokenizer, token_id) or ""
        stop_end = end_of_stop(row.text, piece, row.request.stop)
        if stop_end is not None:
            piece = piece[:stop_end]
        row.text += piece
        if stop_end is not None:
            self._finish(row, Chunk(piece, Finish.STOP, usage))
        elif row.num_tokens >= row.request.max_tokens or row.length + 1 >= self.context_tokens:
            self._finish(row, Chunk(piece, Finish.LENGTH, usage))
        elif piece:
            row.job.results.put_nowait(Chunk(piece))

    def _finish(self, row: _Row, chunk: Chunk) -> None:
        """Hand over the last chunk and keep what was computed. `_release` follows when the step is over."""
        computed = self._rows.read(self._running.index(row), row.length)
        self._prefixes.put(row.request.prompt.text + row.text, row.ids, computed)
        row.job.results.put_nowait(chunk)
        row.job.is_withdrawn = True

    def _release(self, index: int) -> None:
        """Free a row; the last one takes its place, so that the running rows are always the first."""
        last = self._running.pop()
        if index < len(self._running):
            self._rows.move(len(self._running), index, last.length)
            self._running[index] = last

    # ---- scoring -----------------------------------------------------------------------------------------------------

    def _score(self, request: ScoreRequest) -> Scores:
        continuations = [self._ids(text) for text in request.continuations]
        if not all(continuations):
            raise BackendError("score: a continuation is empty. Give every candidate a title.")
        num_scored = sum(len(ids) for ids in continuations)
        row = len(self._running)
        ids, start, cached = self._place_prompt(request.prompt, row, max(map(len, continuations)), num_extra=num_scored)
        end = len(ids)
        num_behind = end - start
        positions = list(range(start, end)) + [end + k for c in continuations for k in range(len(c))]
        mask = tree_mask(start, num_behind, [len(c) for c in continuations], self._device)
        tokens = torch.tensor(ids[start:] + [i for c in continuations for i in c], device=self._device)
        at = torch.tensor(positions, device=self._device)
        hidden = self._forward.row(tokens, at, mask[0, 0], self._rows, row, start)  # (L, E)
        log_probs = self._continuation_log_probs(hidden, num_behind, continuations)
        usage = Usage(end + num_scored, cached, 0)
        return Scores(tuple(log_probs), tuple(len(c) for c in continuations), usage)

    def _continuation_log_probs(
        self, hidden: torch.Tensor, num_behind: int, continuations: Sequence[Sequence[int]]
    ) -> list[float]:
        """Sum of log P(token | prompt, tokens before) of each continuation, from (L, E) hidden states."""
        sources: list[int] = []
        targets: list[int] = []
        owners: list[int] = []
        offset = num_behind
        for owner, ids in enumerate(continuations):
            sources += [num_behind - 1, *range(offset, offset + len(ids) - 1)]
            targets += ids
            owners += [owner] * len(ids)
            offset += len(ids)
        totals = [0.0] * len(continuations)
        for at in range(0, len(sources), _LOGIT_ROWS):
            part = slice(at, at + _LOGIT_ROWS)
            logits = self._forward.logits(hidden[sources[part]]).float()  # (rows, V)
            picked = torch.tensor(targets[part], device=self._device)
            found = logits.gather(1, picked[:, None])[:, 0] - logits.logsumexp(-1)
            for owner, value in zip(owners[part], found.tolist(), strict=True):
                totals[owner] += value
        if not all(map(math.isfinite, totals)):
            raise BackendError("score: the model gives probabilities that are not numbers. Its weights are damaged.")
        return totals

    # ---- forward passes ----------------------------------------------------------------------------------------------

    def _place_prompt(
        self, prompt: Prompt, row: int, num_new: int, *, num_extra: int = 0
    ) -> tuple[list[int], int, int]:
        """Put the prompt's prefix into `row`, kept from before or computed now.

        Returns:
            (ids of the whole prompt, how many of them are in the row, how many did not have to be computed)
        """
        prefix_ids = list(self._prefixes.ids(prompt.prefix) or self._ids(prompt.prefix))
        ids = prefix_ids + self._ids(prompt.suffix)
        if len(ids) + num_new > self.context_tokens:
            raise too_long(len(ids), num_new, self.context_tokens)
        if len(ids) == len(prefix_ids):
            raise BackendError("prompt: the suffix is empty. Put at least one token behind the prefix.")
        self._rows.grow(len(ids) + max(num_new, num_extra), len(self._running))
        computed = self._prefixes.computed(prompt.prefix)
        if computed is not None:
            self._rows.write(row, computed)
            return ids, computed.shape[3], computed.shape[3]
        if prefix_ids:
            self._forward_row(row, 0, prefix_ids)
            self._prefixes.put(prompt.prefix, prefix_ids, self._rows.read(row, len(prefix_ids)))
        return ids, len(prefix_ids), 0

    def _forward_row(self, row: int, start: int, ids: Sequence[int]) -> torch.Tensor:
        """Compute `ids` behind `start` tokens of a row; returns hidden states (L, E)."""
        positions = torch.arange(start, start + len(ids), device=self._device)
        mask = torch.arange(start + len(ids), device=self._device)[None] <= positions[:, None]  # (L, S)
        return self._forward.row(torch.tensor(ids, device=self._device), positions, mask, self._rows, row, start)

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False)["input_ids"] if text else []


def _make_text_stream() -> Any:
    """Turns ids into text as they come; holds back bytes of an unfinished character."""
    from tokenizers.decoders import DecodeStream

    return DecodeStream(skip_special_tokens=True)


def _end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(int(i) for i in [*ids, tokenizer.eos_token_id] if i is not None)
