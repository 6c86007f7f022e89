"""Decoding steps as captured CUDA graphs: the host launches one thing a step instead of some 600.

A GPU is done with an operation of a small model before the host has launched the next one, so the launches are what takes
time. A graph is captured for every number of rows and columns that comes up, rounded up to one of few. Rows beyond those that
run compute something too, and leave it in rows that nobody uses; columns beyond a row's position are masked. A graph knows the
rows by their address: when they are grown, all graphs are captured again.

Where capturing fails, steps are launched one by one, as everywhere else. Imports torch. Ours.
"""

import logging
from collections.abc import Callable
from typing import Final, NamedTuple

import torch

from ranker.backends.forward import Forward
from ranker.backends.kv import KeyValueRows

log = logging.getLogger(__name__)

_COLUMNS: Final = 128
_ROWS: Final = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256)


class Captured(NamedTuple):
    """A graph and where its inputs and outputs lie."""

    replay: Callable[[], object]
    inputs: torch.Tensor
    """(2, B): ids and positions."""
    hidden: torch.Tensor


class GraphedForward:
    """Another pass whose `step` is captured. Everything else goes to that pass."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self.extend, self.logits = forward.extend, forward.logits
        self.dtype, self.device = forward.dtype, forward.device
        self._captured: dict[tuple[int, int], Captured] = {}
        self._version = -1
        self._is_off = False

    def step(
        self, ids: torch.Tensor, positions: torch.Tensor, end: int, rows: KeyValueRows, *, is_ragged: bool
    ) -> torch.Tensor:
        if self._is_off:
            return self._forward.step(ids, positions, end, rows, is_ragged=is_ragged)
        if self._version != rows.version:
            self._captured.clear()
            self._version = rows.version
        shape = round_up(len(ids), rows.num_rows), min(-(-end // _COLUMNS) * _COLUMNS, rows.capacity)
        captured = self._captured.get(shape)
        if captured is None:
            try:
                captured = self._captured[shape] = self._capture(ids, positions, *shape, rows)
            except RuntimeError as error:
                reason = str(error).strip().split("\n", 1)[0]
                log.warning("a decoding step cannot be captured as a CUDA graph: %s: going on without", reason)
                self._is_off = True
                self._captured.clear()
                return self._forward.step(ids, positions, end, rows, is_ragged=is_ragged)
        captured.inputs[0, : len(ids)] = ids
        captured.inputs[1, : len(ids)] = positions
        captured.replay()
        return captured.hidden[: len(ids)]

    def _capture(
        self, ids: torch.Tensor, positions: torch.Tensor, num_rows: int, end: int, rows: KeyValueRows
    ) -> Captured:
        """The step has to run once before it is captured; so that no row is damaged, it runs on what is computed next."""
        inputs = torch.zeros(2, num_rows, dtype=torch.int64, device=ids.device)
        inputs[0, : len(ids)], inputs[1, : len(ids)] = ids, positions
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._forward.step(inputs[0], inputs[1], end, rows, is_ragged=True)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            hidden = self._forward.step(inputs[0], inputs[1], end, rows, is_ragged=True)
        return Captured(graph.replay, inputs, hidden)


def round_up(num_rows: int, limit: int) -> int:
    """How many rows are computed where `num_rows` run and `limit` exist."""
    return min(next((n for n in _ROWS if n >= num_rows), limit), limit)
