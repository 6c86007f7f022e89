"""Which forward pass computes a model: the fastest that comes to the same as the modules of transformers. Imports torch. Ours."""

import copy
import functools
import logging
from types import ModuleType
from typing import Any, Final

import torch

from ranker.backends.forward import Forward, TransformersForward
from ranker.backends.fused import FusedForward
from ranker.backends.lean import LeanForward, WeightOf, check_logits, knows, plain_weight

log = logging.getLogger(__name__)

_TOLERANCE: Final = {"cpu": 1e-3, "cuda": 5e-3}
"""In float32, for the log-probability of any token; a GPU adds up in other orders for other shapes."""
_TOLERANCE_FLOAT16: Final = 0.03
"""With matrices in float16, RMS of the same. SmolLM2-135M: .0015, where a model in bfloat16 is off by .15."""
_ROUNDING: Final = 1.5
"""In half precision: how much farther from float32 than the modules of transformers, whose rounding differs."""


def make_lean(
    model: Any, *, matrices: torch.dtype | None = None, weight_of: WeightOf = plain_weight, has_kernels: bool = True
) -> LeanForward:
    """The lean pass of a model that is known (`ranker.backends.lean.knows`), unchecked.

    Where a model is in float32 on a CPU, compiled loops between its products where they run and `has_kernels` does not say no.
    """
    embedding = weight_of(model.get_decoder().embed_tokens)
    is_for_kernels = has_kernels and embedding.device.type == "cpu" and embedding.dtype is torch.float32
    if is_for_kernels and (kernels := load_kernels()) is not None:
        return FusedForward(model, kernels, matrices=matrices, weight_of=weight_of)
    return LeanForward(model, matrices=matrices, weight_of=weight_of)


@functools.cache
def load_kernels() -> ModuleType | None:
    """`ranker.backends.kernels`, compiled (seconds, the first time on a machine); None where they do not run."""
    try:
        import numba
    except ImportError as error:
        log.info("no compiled loops: %s", error)
        return None
    try:
        from ranker.backends import kernels
    except (OSError, RuntimeError, AttributeError, numba.core.errors.NumbaError) as error:
        # no GNU OpenMP in this process, or nowhere to keep what was compiled
        log.info("no compiled loops: %s", str(error).strip().split("\n", 1)[0])
        return None
    return kernels


def make_checked(model: Any, *, matrices: torch.dtype | None = None, has_kernels: bool = True) -> LeanForward | None:
    """The lean pass of a loaded model; None where it does not know the architecture, or does not come to the same.

    `matrices`: see `LeanForward`; another precision than the model's is for models in float32 on a CPU only.
    """
    if not knows(model):
        return None
    is_fused = False
    try:
        with torch.inference_mode():
            lean = make_lean(model, matrices=matrices, has_kernels=has_kernels)
            is_fused = isinstance(lean, FusedForward)
            excuse = _compare(model, lean, matrices or model.dtype)
    except torch.OutOfMemoryError:
        excuse = "does not fit into memory beside the model"
    if not excuse:
        return lean
    if matrices is torch.float16 and model.dtype is torch.float32:
        log.warning("the lean forward pass with matrices in float16 %s: using float32", excuse)
        return make_checked(model, has_kernels=has_kernels)
    if is_fused:
        log.warning("the lean forward pass with compiled loops %s: going on without", excuse)
        return make_checked(model, matrices=matrices, has_kernels=False)
    log.warning("the lean forward pass %s: using transformers", excuse)
    return None


def _compare(model: Any, lean: LeanForward, matrices: torch.dtype) -> str:
    """Why `lean` does not come to the same as the modules of transformers; empty = it does.

    In half precision the two round differently, and what is right is neither: both are compared with a copy in float32.
    """
    ours = _check_log_probs(lean, model)
    if matrices is torch.float32:
        return _excuse(ours, _check_log_probs(TransformersForward(model), model))
    if matrices is torch.float16 and model.dtype is torch.float32:
        off = _rms(ours - _check_log_probs(TransformersForward(model), model))
        return "" if off <= _TOLERANCE_FLOAT16 else f"is off by {off:.2g} (RMS)"
    exact, half = (_in_precision(model, dtype) for dtype in (torch.float32, matrices))
    truth = _check_log_probs(TransformersForward(exact), exact)
    if excuse := _excuse(_check_log_probs(LeanForward(exact), exact), truth):
        return excuse
    modules = _check_log_probs(TransformersForward(half), half)
    theirs, own = (_rms(found - truth) for found in (modules, ours))
    is_near = own <= _ROUNDING * theirs + _TOLERANCE["cpu"]
    return "" if is_near else f"is off by {own:.2g} (RMS) where transformers is off by {theirs:.2g}"


def _in_precision(model: Any, dtype: torch.dtype) -> Any:
    """The model, or a copy in another precision, but for the frequencies of its positions."""
    if model.dtype is dtype:
        return model
    other = copy.deepcopy(model).to(dtype)
    other.get_decoder().rotary_emb.inv_freq = model.get_decoder().rotary_emb.inv_freq
    return other


def _rms(differences: torch.Tensor) -> float:
    return float(differences.square().mean().sqrt())


def _excuse(found: torch.Tensor, truth: torch.Tensor) -> str:
    difference = float((found - truth).abs().max())
    return (
        ""
        if difference <= _TOLERANCE.get(found.device.type, 1e-3)
        else f"differs by {difference:.2g} from transformers"
    )


def _check_log_probs(forward: Forward, model: Any) -> torch.Tensor:
    return check_logits(forward, model, model.dtype).log_softmax(-1)
