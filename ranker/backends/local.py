"""A model on this machine, loaded by transformers and run by PyTorch: through our own forward pass where there is one.

Loads safetensors only, from a local directory only, and never code that comes with a model. Imports torch: reach it through
`ranker.backends.load_backend`.
"""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from ranker.backends.base import Chunk, GenerateRequest, ScoreRequest, Scores
from ranker.backends.chat import ChatFormat
from ranker.backends.device import matrix_dtype, product_dtype
from ranker.backends.engine import Engine
from ranker.backends.forward import Forward
from ranker.backends.graphs import GraphedForward
from ranker.backends.kv import ATTENTION_NAME
from ranker.backends.limits import EngineLimits, default_limits
from ranker.backends.passes import make_checked
from ranker.errors import BackendError

SUPPORTED: Final = frozenset({"llama", "qwen2", "qwen3", "mistral", "smollm3", "olmo2"})
"""Model types whose layers all attend to everything before them, with a plain output layer."""


class LocalBackend:
    """One causal language model with its tokenizer and engine."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        limits: EngineLimits | None = None,
        forward: Forward | None = None,
    ) -> None:
        self._name, self._model, self._tokenizer, self._forward = name, model, tokenizer, forward
        self._engine = Engine(model, tokenizer, limits or EngineLimits(), forward)
        self._chat_format = ChatFormat(tokenizer)

    @property
    def name(self) -> str:
        return self._name

    @property
    def context_tokens(self) -> int:
        return self._engine.context_tokens

    def chat_text(self, system: str, user: str) -> str:
        return self._chat_format(system, user)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        if not texts:
            return []
        return [len(ids) for ids in self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]]

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Chunk]:
        job = self._engine.submit(request)
        try:
            while True:
                result = await job.results.get()
                if isinstance(result, BackendError):
                    raise result
                assert isinstance(result, Chunk)
                yield result
                if result.finish is not None:
                    return
        finally:
            job.is_withdrawn = True

    async def score(self, request: ScoreRequest) -> Scores:
        job = self._engine.submit(request)
        try:
            result = await job.results.get()
        finally:
            job.is_withdrawn = True
        if isinstance(result, BackendError):
            raise result
        assert isinstance(result, Scores)
        return result

    async def aclose(self) -> None:
        await self._engine.aclose()

    def with_limits(self, limits: EngineLimits) -> "LocalBackend":
        """The same weights behind an engine of its own."""
        return LocalBackend(self._model, self._tokenizer, name=self._name, limits=limits, forward=self._forward)


def load_local(
    directory: Path,
    *,
    name: str,
    adapter: Path | None = None,
    limits: EngineLimits | None = None,
    is_reference: bool = False,
    is_graphed: bool = True,
    dtype: torch.dtype | None = None,
) -> LocalBackend:
    """Load a model directory (config, tokenizer, safetensors), and merge a LoRA adapter into it where one is given.

    `dtype` None: on a CUDA device the model is in `ranker.backends.device.product_dtype`; on a CPU it is in float32, and only the
    matrices of our own forward pass are in `matrix_dtype`.
    `is_reference`: run the modules of transformers, which every other engine is compared with, even where our own forward
    pass (`ranker.backends.passes`) could take their place. `limits`: None = what suits the device. `is_graphed`: on a GPU,
    capture decoding steps of our own pass (`ranker.backends.graphs`).

    Raises:
        BackendError: if files are missing, the model type is not supported, or the tokenizer has no chat template.
    """
    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        _check_supported(config, directory)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            directory,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation=ATTENTION_NAME,
            dtype=dtype or (product_dtype() if device.type == "cuda" else torch.float32),
        )
        if adapter is not None:
            model = merge_adapter(model, adapter)
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # RuntimeError: shapes of an adapter do not fit
        reason = str(error).strip().split("\n", 1)[0]
        raise BackendError(f"{directory}: model cannot be loaded: {reason}. Add it again with `models add`.") from error
    if not tokenizer.chat_template:
        raise BackendError(f"{directory}: the tokenizer has no chat template. Use an instruction-tuned model.")
    model = model.to(device).eval()
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for every shape, and no two prompts have the same
    forward: Forward | None = None if is_reference else make_checked(model, matrices=dtype or matrix_dtype())
    if forward is not None:
        model = model.to("meta")  # our pass has its own layout of the matrices: the modules' own are let go
        if is_graphed and device.type == "cuda":
            forward = GraphedForward(forward)
    return LocalBackend(model, tokenizer, name=name, limits=limits or default_limits(), forward=forward)


def merge_adapter(model: Any, adapter: Path) -> Any:
    """Add the adapter's low-rank updates to the weights; safetensors only.

    Raises:
        ValueError, OSError, RuntimeError: if files are missing or do not fit the model.
    """
    from peft import PeftModel

    if not (adapter / "adapter_model.safetensors").is_file():
        raise ValueError(f"{adapter}: adapter_model.safetensors is missing")
    return PeftModel.from_pretrained(model, adapter, local_files_only=True, use_safetensors=True).merge_and_unload()


def _check_supported(config: Any, directory: Path) -> None:
    text_config = config.get_text_config()
    if text_config.model_type not in SUPPORTED or getattr(text_config, "use_sliding_window", False):
        known = ", ".join(sorted(SUPPORTED))
        raise BackendError(
            f"{directory}: model type {text_config.model_type!r} is not supported. Known types: {known}."
        )
