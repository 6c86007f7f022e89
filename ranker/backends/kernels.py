"""What lies between two matrix products of a decoding step on a CPU, each as one loop that Numba compiles.

PyTorch takes some twenty small operations a layer for it (`ranker.backends.lean`): at one row that is half of the time, and its products of
3 queries with a few hundred keys run at a tenth of what the memory gives. Attention, which is the only one that is worth dividing, runs
on PyTorch's own threads: it hands its body to the GNU OpenMP that PyTorch has loaded. A pool of its own would fight with that one for the
cores, because both wait by spinning.

Shapes: N tokens, E hidden, I intermediate; H query heads, K heads that keep keys, D numbers a head, all float32. Imports Numba: reach it
through `ranker.backends.fused`. Ours.
"""

import ctypes
import os
from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import binding
from numba import types
from numba.extending import intrinsic

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

_F: Final = np.float32
_LOWEST: Final = _F(-1e30)
"""Stands for minus infinity, with which compiled loops need not reckon."""
_LEAST_EXPONENT: Final = _F(-87.0)  # e to the power of less is no normal number
_LOG2_E, _LN2_HIGH, _LN2_LOW = _F(1.4426950408889634), _F(0.693359375), _F(-2.12194440e-4)
_NO_MASK: Final = np.zeros((0, 0, 0), np.bool_)

_OPTIONS: Final[dict[str, Any]] = {"fastmath": True, "error_model": "numpy", "nogil": True, "cache": True}
_MATRIX: Final = types.float32[:, ::1]
_HEADS: Final = types.float32[:, :, ::1]
_LAYER: Final = types.float32[:, :, :, :, ::1]
_INDICES: Final = types.int64[::1]


def _compiled(*arguments: Any) -> Any:
    """Compile for these types at once: an error is one of loading this module."""
    return numba.njit(types.void(*arguments), **_OPTIONS)


@numba.njit(inline="always", **_OPTIONS)
def _exp(x):  # type: ignore[no-untyped-def]
    """e ** x, within 2e-7 of it; made of what a CPU does to several numbers at once (a Taylor sum times a power of two)."""
    x = min(max(x, _LEAST_EXPONENT), -_LEAST_EXPONENT)
    whole = np.floor(x * _LOG2_E + _F(0.5))
    rest = x - whole * _LN2_HIGH - whole * _LN2_LOW  # within ln 2 / 2 of 0
    series = ((_F(1 / 720) * rest + _F(1 / 120)) * rest + _F(1 / 24)) * rest + _F(1 / 6)
    series = ((series * rest + _F(1 / 2)) * rest + _F(1)) * rest + _F(1)
    return series * np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)


@_compiled(_MATRIX, types.float32, _MATRIX)
def normalise(x, epsilon, normed):  # type: ignore[no-untyped-def]
    """`normed` (N, E) = x / RMS(x)."""
    for n in range(x.shape[0]):
        total = _F(0)
        for e in range(x.shape[1]):
            total += x[n, e] * x[n, e]
        factor = _F(1) / np.sqrt(total / _F(x.shape[1]) + epsilon)
        for e in range(x.shape[1]):
            normed[n, e] = x[n, e] * factor


@_compiled(_MATRIX, _MATRIX, types.float32, _MATRIX)
def add_and_normalise(x, y, epsilon, normed):  # type: ignore[no-untyped-def]
    """x += y, and `normed` (N, E) = x / RMS(x)."""
    for n in range(x.shape[0]):
        total = _F(0)
        for e in range(x.shape[1]):
            x[n, e] += y[n, e]
            total += x[n, e] * x[n, e]
        factor = _F(1) / np.sqrt(total / _F(x.shape[1]) + epsilon)
        for e in range(x.shape[1]):
            normed[n, e] = x[n, e] * factor


@_compiled(_MATRIX, _MATRIX)
def gate(gate_up, gated):  # type: ignore[no-untyped-def]
    """`gated` (N, I) = SiLU of the first half of `gate_up` (N, 2 I), times the second half."""
    size = gated.shape[1]
    for n in range(gated.shape[0]):
        for i in range(size):
            g = gate_up[n, i]
            gated[n, i] = g / (_F(1) + _exp(-g)) * gate_up[n, size + i]


@_compiled(_HEADS, _HEADS, _MATRIX, types.float32, _INDICES, _INDICES, _LAYER, _HEADS)
def rotate(heads, turns, head_norm, epsilon, owners, columns, layer, queries):  # type: ignore[no-untyped-def]
    """Turn queries and keys by their position; queries go to `queries`, keys and values to their places in the rows.

    heads (N, H + 2 K, D), of which rotary pairs are neighbours; turns (N, D / 2, 2): cosine and sine; head_norm (H + K, D), or empty:
    weights of a norm over each head; owners and columns (N,): row and place; layer (2, rows, K, capacity, D); queries (N, H, D).
    """
    num_queries, size = queries.shape[1], queries.shape[2]
    num_turned = (num_queries + heads.shape[1]) // 2
    for n in range(heads.shape[0]):
        owner, column = owners[n], columns[n]
        for h in range(heads.shape[1]):
            if h >= num_turned:
                layer[1, owner, h - num_turned, column] = heads[n, h]
                continue
            if head_norm.shape[0]:
                total = _F(0)
                for d in range(size):
                    total += heads[n, h, d] * heads[n, h, d]
                factor = _F(1) / np.sqrt(total / _F(size) + epsilon)
                for d in range(size):
                    heads[n, h, d] *= factor * head_norm[h, d]
            target = queries[n, h] if h < num_queries else layer[0, owner, h - num_queries, column]
            for d in range(size // 2):
                one, other, cosine, sine = heads[n, h, 2 * d], heads[n, h, 2 * d + 1], turns[n, d, 0], turns[n, d, 1]
                target[2 * d] = one * cosine - other * sine
                target[2 * d + 1] = one * sine + other * cosine


@numba.njit(**_OPTIONS)
def _attend_to(queries, keys, values, end, visible, scores, attended):  # type: ignore[no-untyped-def]
    """`attended` (L * G, D): what queries (L * G, D) of L tokens take from the first `end` of keys and values (S, D).

    `visible` (L, S) says what each token sees, if it is not empty: where that is nothing, zero comes out. Overwrites scores (L * G, S).
    """
    num_queries, size = queries.shape
    is_masked = visible.shape[1] > 0
    group = num_queries // visible.shape[0]
    for t in range(end):
        for q in range(num_queries):
            score = _F(0)
            for d in range(size):
                score += queries[q, d] * keys[t, d]
            scores[q, t] = score
    for q in range(num_queries):
        if is_masked:
            for t in range(end):
                scores[q, t] = scores[q, t] if visible[q // group, t] else _LOWEST
        highest = _LOWEST
        for t in range(end):
            highest = max(highest, scores[q, t])
        total = _F(0)
        for t in range(end):
            scores[q, t] = _exp(scores[q, t] - highest)
            total += scores[q, t]
        if is_masked:
            total = _F(0)
            for t in range(end):
                scores[q, t] = scores[q, t] if visible[q // group, t] else _F(0)
                total += scores[q, t]
        factor = _F(1) / total if total > 0 else _F(0)
        for t in range(end):
            scores[q, t] *= factor
        attended[q] = 0
    by_four = end & ~3
    for t in range(0, by_four, 4):
        for q in range(num_queries):
            w0, w1, w2, w3 = scores[q, t], scores[q, t + 1], scores[q, t + 2], scores[q, t + 3]
            for d in range(size):
                attended[q, d] += (
                    w0 * values[t, d] + w1 * values[t + 1, d] + w2 * values[t + 2, d] + w3 * values[t + 3, d]
                )
    for t in range(by_four, end):
        for q in range(num_queries):
            for d in range(size):
                attended[q, d] += scores[q, t] * values[t, d]


# ---- attention, on the threads that PyTorch has -------------------------------------------------------------------------


def _pointer_to(element: Any) -> Any:
    pointer = types.CPointer(element)

    @intrinsic  # type: ignore[untyped-decorator]
    def make(_: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(pointer))

        return pointer(address), generate

    return make


_floats, _integers, _booleans = _pointer_to(types.float32), _pointer_to(types.int64), _pointer_to(types.boolean)
_thread_index = types.ExternalFunction("omp_get_thread_num", types.int32())
_num_threads = types.ExternalFunction("omp_get_num_threads", types.int32())
_ARGUMENTS: Final = 16  # seven addresses and nine sizes


def _attend_share(address):  # type: ignore[no-untyped-def]
    """What one thread does of `Attention`: its share of all rows and heads that keep keys. `address` holds what `Attention` wrote."""
    a = numba.carray(address, _ARGUMENTS)
    batch, length, num_heads, group, size, num_rows, capacity, end, width = (
        a[7],
        a[8],
        a[9],
        a[10],
        a[11],
        a[12],
        a[13],
        a[14],
        a[15],
    )
    queries = numba.carray(_floats(a[0]), (batch, length, num_heads, group, size))
    layer = numba.carray(_floats(a[1]), (2, num_rows, num_heads, capacity, size))
    owners, ends = numba.carray(_integers(a[2]), (batch,)), numba.carray(_integers(a[3]), (batch,))
    visible = numba.carray(_booleans(a[4]), (batch, length, width))
    index, count = np.int64(_thread_index()), np.int64(_num_threads())
    scores = numba.carray(_floats(a[5]), (count, length * group, end))[index]
    attended = numba.carray(_floats(a[6]), (batch, length, num_heads, group, size))
    num_items = batch * num_heads
    asked, found = (
        np.empty((length * group, size), _F),
        np.empty((length * group, size), _F),
    )  # of one head, side by side
    for item in range(num_items * index // count, num_items * (index + 1) // count):
        b, h = item // num_heads, item % num_heads
        keys, values = layer[0, owners[b], h], layer[1, owners[b], h]
        for n in range(length):
            asked[n * group : (n + 1) * group] = queries[b, n, h]
        _attend_to(asked, keys, values, ends[b], visible[b], scores, found)
        for n in range(length):
            attended[b, n, h] = found[n * group : (n + 1) * group]


class Attention:
    """Attention of L tokens in each of B rows: one pass over all layers, in which only the layer changes."""

    def __init__(
        self,
        queries: Floats,
        rows: Floats,
        owners: Integers,
        ends: Integers,
        mask: npt.NDArray[np.bool_] | None,
        attended: Floats,
        num_threads: int,
    ) -> None:
        """
        Args:
            queries: (B, L, H, D), overwritten from layer to layer.
            rows: (layers, 2, rows, K, capacity, D).
            owners: (B,): which row.
            ends: (B,): how many of its columns are looked at.
            mask: (B, L, S), which of them a token sees; None = all.
            attended: (B, L, H, D), where the result goes.
            num_threads: how many of PyTorch's threads share the work.
        """
        batch, length, num_queries, size = queries.shape
        _, _, num_rows, num_heads, capacity, _ = rows.shape
        end, seen = int(ends.max()), _NO_MASK if mask is None else mask
        group = num_queries // num_heads
        scores = np.empty((num_threads, length * group, end), _F)
        arrays = (queries, rows, owners, ends, seen, scores, attended)
        assert all(array.flags.c_contiguous for array in arrays), "their addresses are handed on"
        addresses = [array.ctypes.data for array in arrays]
        sizes = (batch, length, num_heads, group, size, num_rows, capacity, end, seen.shape[-1])
        self._arguments = np.array([*addresses, *sizes], np.int64)
        self._kept = arrays  # for as long as their addresses are used
        self._stride, self._first = rows.strides[0], addresses[1]
        self._num_threads = num_threads

    def __call__(self, layer: int) -> None:
        """Of one layer, whose keys and values are in the rows already."""
        self._arguments[1] = self._first + layer * self._stride
        _run_parallel(_body.address, self._arguments.ctypes.data, self._num_threads, 0)


def _loaded_openmp() -> ctypes.CDLL:
    """The GNU OpenMP that this process has loaded, PyTorch's own; raises OSError where it runs on another one (macOS, Windows)."""
    return ctypes.CDLL("libgomp.so.1", mode=getattr(os, "RTLD_NOLOAD", 0) | os.RTLD_NOW)


_openmp = _loaded_openmp()
for _name in ("omp_get_thread_num", "omp_get_num_threads"):
    binding.add_symbol(_name, ctypes.cast(getattr(_openmp, _name), ctypes.c_void_p).value)
_run_parallel = _openmp.GOMP_parallel
_run_parallel.argtypes, _run_parallel.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
_body: Final = numba.cfunc(types.void(types.CPointer(types.int64)), cache=True)(_attend_share)
