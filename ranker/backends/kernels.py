"""What lies between two matrix products of a forward pass on a CPU, each as one loop that Numba compiles.

PyTorch takes some twenty small operations a layer for it (`ranker.backends.lean`): at one row that is half of the time, and its products of
3 queries with a few hundred keys run at a tenth of what the memory gives.

The loops run on PyTorch's own threads: each hands its body to the GNU OpenMP that PyTorch has loaded. A pool of its own would fight
with that one for the cores, because both wait by spinning. A body gets one array of integers: addresses and sizes.

Shapes: B rows of L tokens, N = B * L; E hidden, I intermediate; H query heads, K heads that keep keys, G = H / K, D numbers a head. Imports
torch and Numba: reach it through `ranker.backends.passes.load_kernels`. Ours.
"""

import ctypes
import os
from collections.abc import Sequence
from typing import Any, Final

import numba
import numpy as np
import torch
from llvmlite import binding
from numba import types
from numba.extending import intrinsic
from torch.autograd import profiler

_F: Final = np.float32
_LOWEST: Final = _F(-1e30)
"""Stands for minus infinity, with which compiled loops need not reckon."""
_LEAST_EXPONENT: Final = _F(-87.0)  # e to the power of less is no normal number
_LOG2_E, _LN2_HIGH, _LN2_LOW = _F(1.4426950408889634), _F(0.693359375), _F(-2.12194440e-4)
_MOST_ARGUMENTS: Final = 20
_KINDS: Final = (torch.float32, torch.int64, torch.bool)

_compiled: Final = numba.njit(fastmath=True, error_model="numpy", cache=True)
_inlined: Final = numba.njit(fastmath=True, error_model="numpy", cache=True, inline="always")
_body: Final = numba.cfunc(types.void(types.CPointer(types.int64)), cache=True)


class Loop:
    """A body with its arguments: called as often as there are layers, each time with other arrays in the first places."""

    def __init__(self, body: Any, arrays: Sequence[torch.Tensor], sizes: Sequence[int], num_threads: int) -> None:
        """`arrays`: contiguous, in the order in which the body wants their addresses; so are `sizes`, behind them."""
        assert all(a.is_contiguous() and a.dtype in _KINDS for a in arrays), "their addresses are handed on"
        addresses = [a.data_ptr() for a in arrays]
        self._arguments = np.array(
            [*addresses, *sizes, *([0] * (_MOST_ARGUMENTS - len(arrays) - len(sizes)))], np.int64
        )
        self._run = body.address, self._arguments.ctypes.data, num_threads, 0
        self._name = f"loop: {body.__name__}"
        self._kept = arrays  # for as long as their addresses are used

    def __call__(self, *moved: torch.Tensor) -> None:
        """Run it, with these (contiguous, of the same shapes and kinds) instead of the first arrays."""
        for index, array in enumerate(moved):
            assert array.is_contiguous(), "its address is handed on"
            self._arguments[index] = array.data_ptr()
        if profiler._is_profiler_enabled:
            with profiler.record_function(self._name):
                _run_parallel(*self._run)
        else:
            _run_parallel(*self._run)


# ---- what a body is made of ----------------------------------------------------------------------------------------------


def _pointer_to(element: Any) -> Any:
    pointer = types.CPointer(element)

    @intrinsic  # type: ignore[untyped-decorator]
    def make(_: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(pointer))

        return pointer(address), generate

    return make


def _loaded_openmp() -> ctypes.CDLL:
    """The GNU OpenMP that this process has loaded, PyTorch's own; raises OSError where it runs on another one (macOS, Windows)."""
    return ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD | os.RTLD_NOW)


_openmp = _loaded_openmp()
for _name in ("omp_get_thread_num", "omp_get_num_threads"):
    binding.add_symbol(_name, ctypes.cast(getattr(_openmp, _name), ctypes.c_void_p).value)
_run_parallel = _openmp.GOMP_parallel
_run_parallel.argtypes, _run_parallel.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None

_floats, _integers, _booleans = _pointer_to(types.float32), _pointer_to(types.int64), _pointer_to(types.boolean)
_thread_index = types.ExternalFunction("omp_get_thread_num", types.int32())
_num_threads = types.ExternalFunction("omp_get_num_threads", types.int32())


@_inlined
def _share(num_items):  # type: ignore[no-untyped-def]
    """Which of so many items this thread takes: from the first to before the last."""
    index, count = np.int64(_thread_index()), np.int64(_num_threads())
    return num_items * index // count, num_items * (index + 1) // count


@_inlined
def _exp(x):  # type: ignore[no-untyped-def]
    """e ** x, within 4e-7 of it; made of what a CPU does to several numbers at once (a Taylor sum times a power of two)."""
    x = min(max(x, _LEAST_EXPONENT), -_LEAST_EXPONENT)
    whole = np.floor(x * _LOG2_E + _F(0.5))
    rest = x - whole * _LN2_HIGH - whole * _LN2_LOW  # within ln 2 / 2 of 0
    series = ((_F(1 / 720) * rest + _F(1 / 120)) * rest + _F(1 / 24)) * rest + _F(1 / 6)
    series = ((series * rest + _F(1 / 2)) * rest + _F(1)) * rest + _F(1)
    return series * np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)


@_compiled
def _copy(source, target):  # type: ignore[no-untyped-def]
    """One by one: NumPy's assignment would check shapes, and compile for that as long as all else."""
    for i in range(len(source)):
        target[i] = source[i]


# ---- norms and the gate --------------------------------------------------------------------------------------------------


@_compiled
def _add_and_normalise_token(added, x, epsilon, normed):  # type: ignore[no-untyped-def]
    total = _F(0)
    for e in range(len(x)):
        x[e] += added[e]
        total += x[e] * x[e]
    factor = _F(1) / np.sqrt(total / _F(len(x)) + epsilon)
    for e in range(len(x)):
        normed[e] = x[e] * factor


@_body
def add_and_normalise(address):  # type: ignore[no-untyped-def]
    """x += added, and normed = x / RMS(x). Arrays: added, x (N, E), epsilon (1,), normed (N, E); sizes: N, E."""
    a = numba.carray(address, _MOST_ARGUMENTS)
    shape = (a[4], a[5])
    added, x, normed = (
        numba.carray(_floats(a[0]), shape),
        numba.carray(_floats(a[1]), shape),
        numba.carray(_floats(a[3]), shape),
    )
    epsilon = numba.carray(_floats(a[2]), (1,))[0]
    first, last = _share(a[4])
    for n in range(first, last):
        _add_and_normalise_token(added[n], x[n], epsilon, normed[n])


@_compiled
def _gate_token(gate_up, gated):  # type: ignore[no-untyped-def]
    size = len(gated)
    for i in range(size):
        gated[i] = gate_up[i] / (_F(1) + _exp(-gate_up[i])) * gate_up[size + i]


@_body
def gate(address):  # type: ignore[no-untyped-def]
    """gated = SiLU of the first half of gate_up, times the second half. Arrays: gate_up (N, 2 I), gated (N, I); sizes: N, I."""
    a = numba.carray(address, _MOST_ARGUMENTS)
    gate_up, gated = numba.carray(_floats(a[0]), (a[2], 2 * a[3])), numba.carray(_floats(a[1]), (a[2], a[3]))
    first, last = _share(a[2])
    for n in range(first, last):
        _gate_token(gate_up[n], gated[n])


# ---- positions -----------------------------------------------------------------------------------------------------------


@_compiled
def _turn(head, turns, target):  # type: ignore[no-untyped-def]
    """`target` (D,) = `head` (D,), whose rotary pairs are neighbours, turned by cosines and sines (D / 2, 2)."""
    for d in range(len(turns)):
        one, other, cosine, sine = head[2 * d], head[2 * d + 1], turns[d, 0], turns[d, 1]
        target[2 * d] = one * cosine - other * sine
        target[2 * d + 1] = one * sine + other * cosine


@_compiled
def _normalise_head(head, weights, epsilon):  # type: ignore[no-untyped-def]
    total = _F(0)
    for d in range(len(head)):
        total += head[d] * head[d]
    factor = _F(1) / np.sqrt(total / _F(len(head)) + epsilon)
    for d in range(len(head)):
        head[d] *= factor * weights[d]


@_body
def rotate(address):  # type: ignore[no-untyped-def]
    """Turn queries and keys by their position; queries go aside, keys and values to their places in the rows.

    Arrays: heads (N, H + 2 K, D), layer (2, rows, K, capacity, D), head_norm (H + K, D) or nothing: weights of a norm over each head,
    turns (N, D / 2, 2), epsilon (1,), owners and columns (N,): row and place, queries (N, H, D); sizes: N, H, K, D, rows, capacity,
    H + K where there is a norm, else 0.
    """
    a = numba.carray(address, _MOST_ARGUMENTS)
    num_tokens, num_queries, num_kept, size, num_rows, capacity, num_normed = (
        a[8],
        a[9],
        a[10],
        a[11],
        a[12],
        a[13],
        a[14],
    )
    heads = numba.carray(_floats(a[0]), (num_tokens, num_queries + 2 * num_kept, size))
    layer = numba.carray(_floats(a[1]), (2, num_rows, num_kept, capacity, size))
    head_norm, turns = (
        numba.carray(_floats(a[2]), (num_normed, size)),
        numba.carray(_floats(a[3]), (num_tokens, size // 2, 2)),
    )
    epsilon = numba.carray(_floats(a[4]), (1,))[0]
    owners, columns = numba.carray(_integers(a[5]), (num_tokens,)), numba.carray(_integers(a[6]), (num_tokens,))
    queries = numba.carray(_floats(a[7]), (num_tokens, num_queries, size))
    first, last = _share(num_tokens)
    for n in range(first, last):
        for h in range(num_normed):
            _normalise_head(heads[n, h], head_norm[h], epsilon)
        for h in range(num_queries):
            _turn(heads[n, h], turns[n], queries[n, h])
        for h in range(num_kept):
            _turn(heads[n, num_queries + h], turns[n], layer[0, owners[n], h, columns[n]])
            _copy(heads[n, num_queries + num_kept + h], layer[1, owners[n], h, columns[n]])


# ---- attention -----------------------------------------------------------------------------------------------------------


@_compiled
def _attend(queries, keys, values, end, visible, scores, attended):  # type: ignore[no-untyped-def]
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
        for d in range(size):
            attended[q, d] = _F(0)
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


@_body
def attend(address):  # type: ignore[no-untyped-def]
    """Attention of L tokens in each of B rows, whose keys and values are in the rows already.

    Arrays: layer (2, rows, K, capacity, D), queries (B, L, H, D), owners (B,): which row, ends (B,): how many of its columns are looked
    at, mask (B, L, S): which of them a token sees, or nothing for all, scores (threads, L * G, largest end): for what is
    computed on the way, attended (B, L, H, D); sizes: B, L, K, G, D, rows, capacity, largest end, S or 0.
    """
    a = numba.carray(address, _MOST_ARGUMENTS)
    batch, length, num_kept, group, size = a[7], a[8], a[9], a[10], a[11]
    num_rows, capacity, end, width = a[12], a[13], a[14], a[15]
    layer = numba.carray(_floats(a[0]), (2, num_rows, num_kept, capacity, size))
    queries = numba.carray(_floats(a[1]), (batch, length, num_kept, group, size))
    owners, ends = numba.carray(_integers(a[2]), (batch,)), numba.carray(_integers(a[3]), (batch,))
    visible = numba.carray(_booleans(a[4]), (batch, length, width))
    scores = numba.carray(_floats(a[5]), (np.int64(_num_threads()), length * group, end))[np.int64(_thread_index())]
    attended = numba.carray(_floats(a[6]), (batch, length, num_kept, group, size))
    asked, found = (
        np.empty((length * group, size), _F),
        np.empty((length * group, size), _F),
    )  # of one head, side by side
    first, last = _share(batch * num_kept)
    for item in range(first, last):
        b, h = item // num_kept, item % num_kept
        for n in range(length):
            for g in range(group):
                _copy(queries[b, n, h, g], asked[n * group + g])
        _attend(asked, layer[0, owners[b], h], layer[1, owners[b], h], ends[b], visible[b], scores, found)
        for n in range(length):
            for g in range(group):
                _copy(found[n * group + g], attended[b, n, h, g])
