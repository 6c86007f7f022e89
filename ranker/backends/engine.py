"""Continuous batching: many prompts in flight, each at its own position, one decoding step at a time.

The engine lives in the event loop of its callers. Between two steps it lets the loop run, so that whoever got an answer can
ask the next question before the next step: with the same requests in the same order, the batches are the same again.

Prefix cache. A prompt's prefix is always computed by itself and kept (least recently used go first), and so is everything
that a finished generation computed, under its text. A later prompt whose prefix is that text goes on from there. A prefix that
names its head is computed in two pieces, so that other prefixes with that head go on from there. A new prefix waits where it would
push out those that running rankings will ask for again (`ranker.backends.waiting`). The ids of a text are remembered apart from what was computed for them (a sampled text need not tokenise to the ids that were
sampled), so a cached and an uncached run see the same ids in the same pieces.

Guesses. On a CPU a pass over a few tokens takes little more than a pass over one. Where few rows run, what is likely to come (see
`ranker.backends.lookup`) is put behind the last token, and what the model agrees with is taken.

Scoring. All continuations are laid behind the prompt in one row as a tree (`ranker.backends.tokentree`); a mask shows each token
where it comes from. One forward pass, no copy of the prompt per continuation, and what they share is computed once. Ours.

A GPU is fast where much is done at once: there what waits is started in batches, after a few steps for company (on a CPU one
by one), a decoding step is a captured graph (`ranker.backends.graphs`), and the host waits for the device once a step, for the
ids of all rows.
"""

import asyncio
import bisect
import itertools
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch

from ranker.backends.base import LIVE, Chunk, Finish, GenerateRequest, Prompt, ScoreRequest, Scores, Usage, too_long
from ranker.backends.calls import Job, Placed, Row
from ranker.backends.forward import Forward, TransformersForward, extend_rows
from ranker.backends.kv import KeyValueRows
from ranker.backends.limits import EngineLimits
from ranker.backends.lookup import Lookup
from ranker.backends.prefixes import PrefixCache
from ranker.backends.stops import end_of_stop
from ranker.backends.tokentree import NO_LINE, lay_out_tree
from ranker.backends.waiting import Waiting, columns_of
from ranker.errors import BackendError

_CLOSED = "engine: closed: load the model again"
_LOGIT_ROWS, _LOGIT_ROWS_GPU = 256, 2048  # positions whose full-vocabulary logits are held at once
_MAX_TEXTS = 4096  # continuations whose ids are remembered
_LEAST_GUESSED, _MOST_GUESSED = 2, 6  # tokens of a guess that is worth a longer pass


class Engine:
    """Runs a causal language model for any number of concurrent `generate` and `score` calls of one event loop."""

    def __init__(self, model: Any, tokenizer: Any, limits: EngineLimits, forward: Forward | None = None) -> None:
        """`forward` computes what `model` does, whose weights are then not looked at; None = by the modules of `model` itself."""
        self._tokenizer, self._limits = tokenizer, limits
        self._forward = forward or TransformersForward(model)
        self._device = self._forward.device
        config = model.config.get_text_config()
        self.context_tokens = int(config.max_position_embeddings)
        self._rows = KeyValueRows(
            config,
            limits.max_rows + limits.live_rows + limits.start_rows,  # rows behind the running ones are for starts
            dtype=self._forward.dtype,
            device=self._device,
            max_bytes=limits.row_bytes if self._device.type == "cuda" else None,
        )
        self._end_ids = _end_ids(model, tokenizer)
        self._prefixes = PrefixCache(limits.prefix_bytes, self._needed)
        self._text_ids: dict[str, list[int]] = {}
        self._running: list[Row] = []
        self._waiting = Waiting(limits, self._prefixes, self._rows, self._place)
        self._driver: asyncio.Task[None] | None = None
        self._is_closed = False

    # ---- what callers see --------------------------------------------------------------------------------------------

    def submit(self, request: GenerateRequest | ScoreRequest) -> Job:
        """Queue a call; its results arrive in `job.results`. Raises BackendError if the engine is closed."""
        if self._is_closed:
            raise BackendError(_CLOSED)
        if self._driver is None or self._driver.done():
            self._running.clear()  # left over from an event loop that is gone
            self._waiting.clear()
            self._driver = asyncio.get_running_loop().create_task(self._drive())
            self._driver.add_done_callback(self._fail_outstanding)
        job = Job(request=request, suffix_ids=self._ids(request.prompt.suffix))
        if isinstance(request, GenerateRequest):
            job.num_tokens = len(self._prefix_ids(job)) + len(job.suffix_ids) + request.max_tokens
        self._waiting.add(job)
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
        for job in [*(row.job for row in self._running), *self._waiting.jobs]:
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
        while self._waiting.jobs or self._running:
            with torch.inference_mode():  # never across an await: the mode belongs to the thread
                self._prefixes.next_step()
                self._drop_withdrawn()
                self._admit()
                if self._running:
                    self._decode_step()
            for _ in range(3):  # callers take their results and submit what follows
                await asyncio.sleep(0)

    def _drop_withdrawn(self) -> None:
        self._waiting.drop_withdrawn()
        self._release_ended()

    def _admit(self) -> None:
        """Start what waits; while somebody watches, one batch between two tokens."""
        if self._waiting.expects_company(self._running):
            return
        is_watched = any(row.request.priority == LIVE for row in self._running)
        is_idle = not self._running
        while batch := self._waiting.next_batch(self._running, is_idle=is_idle):
            is_idle = False
            if isinstance(batch[0].job.request, ScoreRequest):
                self._score(batch)
                self._waiting.has_waited()  # who got a score asks again
            else:
                self._prefill(batch)
            if is_watched:
                return

    def _needed(self) -> Iterator[str]:
        """The prefixes of what runs, which is asked for again when it has ended."""
        return (row.request.prompt.prefix for row in self._running)

    # ---- generation --------------------------------------------------------------------------------------------------

    def _prefill(self, batch: Sequence[Placed]) -> None:
        hidden = self._compute_prompts(batch)
        last = torch.tensor([len(p.ids) - p.start - 1 for p in batch], device=self._device)
        logits = self._forward.logits(hidden[torch.arange(len(batch), device=self._device), last])
        rows: list[Row] = []
        for placed in batch:
            request = placed.job.request
            assert isinstance(request, GenerateRequest)
            generator = None
            if request.temperature > 0:
                generator = torch.Generator(self._device).manual_seed(request.seed)
            rows.append(
                Row(
                    job=placed.job,
                    request=request,
                    text_stream=_make_text_stream(),
                    ids=placed.ids,
                    length=len(placed.ids),
                    usage=Usage(len(placed.ids), placed.cached, 0),
                    generator=generator,
                    lookup=Lookup(placed.ids) if generator is None else None,
                )
            )
        self._running += rows
        self._accept_all(rows, logits)

    def _decode_step(self) -> None:
        """One token for every row whose turn it is, or several where a guess proves right."""
        rows = self._running[: self._bring_forward()]
        room = self._limits.pass_tokens // len(rows) - 1
        guesses = [row.guess(min(room, _MOST_GUESSED)) for row in rows] if room >= _LEAST_GUESSED else []
        if any(guesses) and self._fits(rows, guesses):
            self._check(rows, guesses)
            return
        ids, positions = torch.tensor([[row.ids[-1] for row in rows], [row.length for row in rows]]).to(self._device)
        end = max(row.length for row in rows) + 1
        hidden = self._forward.step(ids, positions, end, self._rows, is_ragged=len(rows) > 1)
        for row in rows:
            row.length += 1
        self._accept_all(rows, self._forward.logits(hidden))

    def _bring_forward(self) -> int:
        """Put the watched rows among those that decode now, and return how many these are of the first ones: all, where nobody watches."""
        rows = self._running
        watched = [index for index, row in enumerate(rows) if row.request.priority == LIVE]
        most = max(len(watched), self._limits.watched_rows)
        if not watched or most >= len(rows):
            return len(rows)
        others = (index for index in range(most) if rows[index].request.priority > LIVE)
        for behind in (index for index in watched if index >= most):
            index = next(others)
            self._rows.swap(index, behind, rows[index].length, rows[behind].length)
            rows[index], rows[behind] = rows[behind], rows[index]
        return most

    def _fits(self, rows: Sequence[Row], guesses: Sequence[list[int]]) -> bool:
        """Whether the longest guess has room behind the longest row."""
        return max(row.length for row in rows) + 1 + max(map(len, guesses)) <= self._rows.capacity

    def _check(self, rows: Sequence[Row], guesses: Sequence[list[int]]) -> None:
        """A pass over each row's last token and its guess; what the model would have written too is accepted, and one token more."""
        lines = [[row.ids[-1], *guess] for row, guess in zip(rows, guesses, strict=True)]
        hidden = extend_rows(
            self._forward, self._rows, 0, [(row.length, line, NO_LINE) for row, line in zip(rows, lines, strict=True)]
        )
        logits = self._forward.logits(hidden.flatten(0, 1))  # (B * L, V)
        best = logits.argmax(-1).view(len(rows), -1).tolist()
        first = self._sample(rows, logits.view(len(rows), -1, logits.shape[-1])[:, 0])
        for row, guess, following, drawn in zip(rows, guesses, best, first, strict=True):
            for guessed, token_id in itertools.zip_longest(guess, [drawn, *following[1 : len(guess) + 1]]):
                row.length += 1
                self._accept(row, token_id)
                if token_id != guessed or row.job.is_withdrawn:
                    break
        self._release_ended()

    def _accept_all(self, rows: Sequence[Row], logits: torch.Tensor) -> None:
        """Sample a token for each of the rows, from (B, V) logits, and free those that end."""
        for row, token_id in zip(rows, self._sample(rows, logits), strict=True):
            self._accept(row, token_id)
        self._release_ended()

    def _sample(self, rows: Sequence[Row], logits: torch.Tensor) -> list[int]:
        """The next ids from (B, V) logits: the arg max, or a draw at the request's temperature. Waits for the device once."""
        picked = logits.argmax(-1)
        for index, row in enumerate(rows):
            if row.generator is not None:
                probabilities = (logits[index].float() / row.request.temperature).softmax(-1)
                picked[index] = torch.multinomial(probabilities, 1, generator=row.generator)[0]
        found: list[int] = picked.tolist()
        return found

    def _accept(self, row: Row, token_id: int) -> None:
        """Take a sampled id into the row: stream its text, or end the completion."""
        row.num_tokens += 1
        if token_id in self._end_ids:
            self._finish(row, "", Finish.STOP)
            return
        row.ids.append(token_id)
        piece = row.text_stream.step(self._tokenizer.backend_tokenizer, token_id) or ""
        stop_end = end_of_stop(row.text, piece, row.request.stop)
        if stop_end is not None:
            piece = piece[:stop_end]
        row.text += piece
        if stop_end is not None:
            self._finish(row, piece, Finish.STOP)
        elif row.num_tokens >= row.request.max_tokens or row.length + 1 >= self.context_tokens:
            self._finish(row, piece, Finish.LENGTH)
        elif piece:
            row.job.results.put_nowait(Chunk(piece))

    def _finish(self, row: Row, piece: str, finish: Finish) -> None:
        """Hand over the last chunk and keep what was computed. `_release` follows when the step is over."""
        prompt, read = row.request.prompt, partial(self._rows.read, self._running.index(row))
        behind = self._prefixes.length(prompt.prefix)
        text = prompt.text + row.text
        self._prefixes.put(text, row.ids, row.job.age, row.length, read, behind=prompt.prefix, num_behind=behind)
        usage = row.usage._replace(completion_tokens=row.num_tokens)
        row.job.results.put_nowait(Chunk(piece, finish, usage))
        row.job.is_withdrawn = True

    def _release_ended(self) -> None:
        """Free the running rows that have ended or were withdrawn."""
        for index in reversed(range(len(self._running))):
            if self._running[index].job.is_withdrawn:
                self._release(index)

    def _release(self, index: int) -> None:
        """Free a row; the last one takes its place, so that the running rows are always the first."""
        last = self._running.pop()
        if index < len(self._running):
            self._rows.move(len(self._running), index, last.length)
            self._running[index] = last

    # ---- scoring -----------------------------------------------------------------------------------------------------

    def _score(self, batch: Sequence[Placed]) -> None:
        hidden = self._compute_prompts(batch)
        places: list[tuple[int, int]] = []
        edges: list[tuple[int, int]] = []
        for index, placed in enumerate(batch):
            offset, root = len(placed.ids) - placed.start, len(places)
            places += [(index, offset + node) for node in range(-1, len(placed.line.ids))]
            edges += [(root + 1 + node, token_id) for node, token_id in placed.line.edges]
        found = iter(self._log_probs(hidden, places, edges))
        for placed in batch:
            of_edges = list(itertools.islice(found, len(placed.line.edges)))
            log_probs = tuple(sum(of_edges[edge] for edge in path) for path in placed.line.paths)
            if not all(map(math.isfinite, log_probs)):
                message = "score: the model gives probabilities that are not numbers. Its weights are damaged."
                placed.job.results.put_nowait(BackendError(message))
                continue
            num_tokens = tuple(map(len, placed.line.paths))
            usage = Usage(len(placed.ids) + sum(num_tokens), placed.cached, 0)
            placed.job.results.put_nowait(Scores(log_probs, num_tokens, usage))

    def _log_probs(
        self, hidden: torch.Tensor, places: Sequence[tuple[int, int]], edges: Sequence[tuple[int, int]]
    ) -> list[float]:
        """log P(id | everything before) for each edge (index of a place, id), in the order of the places (row, token) of (B, L, E)."""
        where = torch.tensor(places, device=self._device)
        sources, ids = torch.tensor(edges, device=self._device).unbind(1)
        parts = []
        chunk = _LOGIT_ROWS_GPU if self._device.type == "cuda" else _LOGIT_ROWS
        begin = 0
        for at in range(0, len(places), chunk):
            rows, tokens = where[at : at + chunk].unbind(1)
            logits = self._forward.logits(hidden[rows, tokens]).float()  # (chunk, V)
            end = bisect.bisect_left(edges, (at + chunk,), begin)
            of_edges = sources[begin:end] - at
            parts.append(logits[of_edges, ids[begin:end]] - logits.logsumexp(-1)[of_edges])
            begin = end
        found: list[float] = torch.cat(parts).tolist()
        return found

    # ---- forward passes ----------------------------------------------------------------------------------------------

    def _place(self, job: Job) -> Placed:
        """Look up what is kept of a call's prompt. Raises BackendError if it cannot be computed."""
        prompt, request = job.request.prompt, job.request
        prefix_ids = list(self._prefix_ids(job))
        ids = [*prefix_ids, *job.suffix_ids]
        line = NO_LINE
        if isinstance(request, ScoreRequest):
            continuations = self._continuations(request.continuations)
            if not all(continuations):
                raise BackendError("score: a continuation is empty. Give every candidate a title.")
            line = lay_out_tree(continuations)
            num_new, room = max(map(len, continuations)), len(ids) + len(line.ids)
        else:
            num_new, room = request.max_tokens, len(ids) + request.max_tokens
        if len(ids) + num_new > self.context_tokens:
            raise too_long(len(ids), num_new, self.context_tokens)
        if len(ids) == len(prefix_ids):
            raise BackendError("prompt: the suffix is empty. Put at least one token behind the prefix.")
        num_kept = self._prefixes.length(prompt.prefix)
        head_ids = [] if num_kept else self._head_ids(prompt, prefix_ids)
        has_head = self._prefixes.length(prompt.head_text) >= len(head_ids)
        return Placed(
            job=job,
            prefix_ids=prefix_ids,
            ids=ids,
            line=line,
            computed=self._prefixes.pieces(prompt.prefix, num_kept),
            head_ids=head_ids,
            computed_head=self._prefixes.pieces(prompt.head_text, len(head_ids)) if has_head else (),
            start=num_kept or len(prefix_ids),
            room=room,
        )

    def _compute_prompts(self, batch: Sequence[Placed]) -> torch.Tensor:
        """Put prompts into the rows behind the running ones: heads and prefixes kept from before or computed now, then what follows.

        Those whose prefix has to be computed come first in `batch`, and of these those with a new head. Returns hidden states
        (B, L, E) of what stands behind `start`: the rest of the prompt, and the continuations side by side.
        """
        first = len(self._running)
        self._rows.grow(columns_of(batch), first)
        new = [p for p in batch if p.is_new]
        if with_head := [p for p in new if p.has_new_head]:
            extend_rows(self._forward, self._rows, first, [(0, p.head_ids, NO_LINE) for p in with_head])
        for row, placed in enumerate(new, first):
            if placed.has_new_head:
                head, read = placed.job.request.prompt.head_text, partial(self._rows.read, row)
                self._prefixes.put(head, self._ids(head), placed.job.age, len(placed.head_ids), read)
            self._rows.write(row, placed.computed_head)
        if new:
            rest = [(len(p.head_ids), p.prefix_ids[len(p.head_ids) :], NO_LINE) for p in new]
            extend_rows(self._forward, self._rows, first, rest)
        for row, placed in enumerate(batch, first):
            prompt, read, num_head = placed.job.request.prompt, partial(self._rows.read, row), len(placed.head_ids)
            self._rows.write(row, placed.computed)
            if placed.is_new:
                ids, head = placed.prefix_ids, prompt.head_text
                self._prefixes.put(
                    prompt.prefix, ids, placed.job.age, placed.start, read, behind=head, num_behind=num_head
                )
        return extend_rows(self._forward, self._rows, first, [(p.start, p.ids[p.start :], p.line) for p in batch])

    # ---- ids ---------------------------------------------------------------------------------------------------------

    def _prefix_ids(self, job: Job) -> Sequence[int]:
        """Those that are remembered of the text, where it was computed or sampled before."""
        prefix = job.request.prompt.prefix
        if (known := self._prefixes.ids(prefix)) is not None:
            return known
        if not job.prefix_ids:
            job.prefix_ids = self._ids(prefix)
        return job.prefix_ids

    def _head_ids(self, prompt: Prompt, prefix_ids: Sequence[int]) -> list[int]:
        """The prefix's first ids as far as they are those of its head: where two words meet, the last may be another one."""
        if not prompt.head:
            return []
        head = self._prefixes.ids(prompt.head_text) or self._ids(prompt.head_text)
        pairs = zip(head, prefix_ids[:-1], strict=False)
        return [own for own, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]

    def _continuations(self, texts: Sequence[str]) -> list[list[int]]:
        """Of each text; the titles of a pool come again at every step, so they are remembered."""
        if len(self._text_ids) > _MAX_TEXTS:
            self._text_ids.clear()
        new = [text for text in dict.fromkeys(texts) if text not in self._text_ids]
        if new:
            self._text_ids |= zip(new, self._tokenizer(new, add_special_tokens=False)["input_ids"], strict=True)
        return [self._text_ids[text] for text in texts]

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
