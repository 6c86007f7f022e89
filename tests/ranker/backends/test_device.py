"""Which precision a model is computed in, and who may choose it."""

import pytest
import torch

from ranker.backends import device
from ranker.backends.device import device_words, matrix_dtype, product_dtype
from ranker.errors import BackendError


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        ({}, torch.float32),
        ({"avx512_f": True, "avx512_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ],
)
def test_products_are_narrow_where_the_cpu_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, instructions: dict[str, bool], expected: torch.dtype
) -> None:
    monkeypatch.delenv(device.PRECISION, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    monkeypatch.setattr(device, "_multiplies_by_float16", lambda: False)
    assert product_dtype() is matrix_dtype() is expected
    assert device_words().endswith(f"products in {str(expected).removeprefix('torch.')}")
    monkeypatch.setenv(device.PRECISION, "float32")
    assert product_dtype() is torch.float32


@pytest.mark.parametrize(("is_narrow", "expected"), [(False, torch.float16), (True, torch.bfloat16)])
def test_matrices_are_in_float16_where_products_are_not_narrow(
    monkeypatch: pytest.MonkeyPatch, is_narrow: bool, expected: torch.dtype
) -> None:
    monkeypatch.delenv(device.PRECISION, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": is_narrow})
    monkeypatch.setattr(device, "_multiplies_by_float16", lambda: True)
    assert matrix_dtype() is expected
    assert device_words().endswith("in bfloat16" if is_narrow else "in float32 by matrices in float16")
    monkeypatch.setenv(device.PRECISION, "float32")
    assert matrix_dtype() is torch.float32


def test_a_precision_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(device.PRECISION, "int3")
    with pytest.raises(BackendError, match="STUDIO_PRECISION: 'int3' is not known"):
        product_dtype()
