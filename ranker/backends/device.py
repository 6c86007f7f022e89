"""What a model is computed with on this machine, and in which precision. Imports torch. Ours."""

import os
from typing import Final

import torch

from ranker.errors import BackendError

PRECISION: Final = "STUDIO_PRECISION"
"""Environment variable: `float32` = exact on every CPU alike; unset = what is fastest without a loss that rankings show."""
_EXACT: Final = "float32"


def product_dtype() -> torch.dtype:
    """Precision of a model's matrix products: bfloat16 on a GPU, and on a CPU that has instructions for it; else float32.

    Raises:
        BackendError: if `STUDIO_PRECISION` says something else than `float32`.
    """
    chosen = os.environ.get(PRECISION, "")
    if chosen not in ("", _EXACT):
        raise BackendError(f"{PRECISION}: {chosen!r} is not known. Say {_EXACT}, or leave it unset.")
    if chosen == _EXACT:
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_available() or _multiplies_bfloat16() else torch.float32


def matrix_dtype() -> torch.dtype:
    """Precision in which a model's matrices are kept: `product_dtype`, but float16 where products are in float32 and this CPU has
    FBGEMM's (from AVX2 on), which read half of the memory and take every other number as it is.

    Raises:
        BackendError: as `product_dtype`.
    """
    products = product_dtype()
    is_free = products is torch.float32 and os.environ.get(PRECISION, "") != _EXACT
    return torch.float16 if is_free and _multiplies_by_float16() else products


def device_words() -> str:
    """For the head of a file with results: the device, `product_dtype`, and `matrix_dtype` where that is another one."""
    is_gpu = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if is_gpu else f"CPU, {torch.backends.cpu.get_cpu_capability()}"
    products, matrices = (str(dtype).removeprefix("torch.") for dtype in (product_dtype(), matrix_dtype()))
    return f"{name}, products in {products}" + (f" by matrices in {matrices}" if matrices != products else "")


def _multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16: without them float32 is faster."""
    capabilities = torch.cpu.get_capabilities()
    return torch.backends.mkldnn.is_available() and any(capabilities.get(i) for i in ("avx512_bf16", "amx_bf16"))


def _multiplies_by_float16() -> bool:
    """Whether PyTorch multiplies float32 by matrices that are kept in float16 here."""
    return "fbgemm" in torch.backends.quantized.supported_engines and hasattr(
        torch.ops.quantized, "linear_prepack_fp16"
    )
