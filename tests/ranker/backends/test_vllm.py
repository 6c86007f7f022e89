"""What vLLM does beyond the conformance tests: adapters, and how it says that it is not there."""

import asyncio
import importlib.util
import sys
from pathlib import Path

import pytest

from ranker.backends import Prompt, ScoreRequest, load_backend
from ranker.errors import BackendError

REQUEST = ScoreRequest(
    prompt=Prompt("Think between a film and one " * 12, " then two ["),
    continuations=("one", "a film and", "a film", "two"),
)
needs_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed (extra `vllm`)")


@pytest.fixture(scope="module")
def adapter_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of the tiny model that changes what it says."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    directory = tmp_path_factory.mktemp("adapter")
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
    torch.manual_seed(1)
    adapted = get_peft_model(
        model, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained(directory)
    return directory


def log_probs(directory: Path, engine: str, adapter: Path | None) -> tuple[float, ...]:
    backend = load_backend(directory, name="tiny", engine=engine, adapter=adapter)

    async def score() -> tuple[float, ...]:
        try:
            return (await backend.score(REQUEST)).log_probs
        finally:
            await backend.aclose()

    return asyncio.run(score())


@needs_vllm
@pytest.mark.slow
def test_an_adapter_says_the_same_as_in_the_local_engine(tiny_model_dir: Path, adapter_dir: Path) -> None:
    expected = log_probs(tiny_model_dir, "transformers", adapter_dir)
    assert expected != pytest.approx(log_probs(tiny_model_dir, "transformers", None), abs=0.1)
    assert log_probs(tiny_model_dir, "vllm", adapter_dir) == pytest.approx(expected, abs=2e-2)


@needs_vllm
def test_an_adapter_that_is_not_there_is_one_line(tiny_model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"adapter_.*") as raised:
        load_backend(tiny_model_dir, name="tiny", engine="vllm", adapter=tmp_path)
    assert "\n" not in str(raised.value)


def test_where_vllm_is_missing_the_way_to_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.delitem(sys.modules, "ranker.backends.vllm", raising=False)
    with pytest.raises(BackendError, match="vllm: is not installed: pip install"):
        load_backend(tmp_path, name="tiny", engine="vllm")
