"""Other ways to run the same loop on the same model. A peer pays for its thoughts only: its decisions are free.

re-prompt      the loop of the paper's reference on our engine: a full prompt a step, nothing cached, in bulk in lock step
generate       Hugging Face `generate`, a full prompt a step; on a GPU in bulk also all tasks' prompts in one batch, in lock step
llama.cpp      its own prefix cache, on the prompts that suit it best (`fixed-block`); 4-bit weights where the file has them; "plain weights"
               where its layout for this CPU crashes
vLLM           likewise, with the weights as they lie in the files
"""

import importlib.util
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest import mock

from ranker.backends.base import Prompt
from ranker.bench.journal import Cost

NOT_RUN = {
    "rank_llm": "its rerankers need models that were trained on its own prompts and list format, which this model never writes: "
    "it would measure how often it gives up",
    "rerankers": "it wraps cross-encoders and rank_llm: none of them can run this model",
}
"""Peers that cannot be compared on this model, and why."""

Ask = Callable[[Prompt, int], Cost]
"""(prompt, thinking tokens) -> what it cost."""

AskAll = Callable[[Sequence[Prompt], int], Cost]
"""The same for a batch; the cost of all together."""


GENERATE: Final = "transformers generate"
LLAMA_CPP: Final = "llama.cpp"
VLLM: Final = "vLLM"
PEERS: Final = (GENERATE, LLAMA_CPP, VLLM)


class Peer(NamedTuple):
    """A way to continue a prompt. `ask` None = not here, `note` says why."""

    name: str
    ask: Ask | None
    note: str = ""
    is_cached: bool = False
    """It keeps what prompts have in common, so it is given those that have most in common."""
    ask_all: AskAll | None = None
    """It takes batches."""


def open_generate(directory: Path) -> Peer:
    """Plain Hugging Face `generate` on the same directory, in the precision of our products."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ranker.backends.device import product_dtype

    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(
        directory, local_files_only=True, use_safetensors=True, dtype=product_dtype()
    )
    model = model.to(device).eval()

    def ask(prompt: Prompt, think_tokens: int) -> Cost:
        started = time.perf_counter()
        ids = tokenizer(prompt.text, add_special_tokens=False, return_tensors="pt").input_ids.to(device)
        with torch.inference_mode():
            first = _FirstToken()
            output = model.generate(
                ids, max_new_tokens=think_tokens, do_sample=False, streamer=first, pad_token_id=tokenizer.pad_token_id
            )
        return _cost(started, first.at, prompt_tokens=ids.shape[1], completion_tokens=output.shape[1] - ids.shape[1])

    def ask_all(prompts: Sequence[Prompt], think_tokens: int) -> Cost:
        started = time.perf_counter()
        batch = tokenizer([p.text for p in prompts], add_special_tokens=False, return_tensors="pt", padding=True)
        batch = batch.to(device)
        with torch.inference_mode():
            output = model.generate(
                **batch, max_new_tokens=think_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
        new = output[:, batch.input_ids.shape[1] :].cpu()
        return Cost(
            seconds=time.perf_counter() - started,
            num_steps=len(prompts),
            prompt_tokens=int(batch.attention_mask.sum()),
            completion_tokens=int((new != tokenizer.pad_token_id).sum()),
        )

    tokenizer.padding_side = "left"
    if device == "cuda":
        ask(Prompt("", "one two three"), 4)  # kernels are chosen
    return Peer(GENERATE, ask, ask_all=ask_all if device == "cuda" else None)


def _cost(started: float, first: float | None, **tokens: int) -> Cost:
    """Of one thought that is over now. `first`: when its first token came, None or 0 = none did."""
    seconds, until_first = time.perf_counter() - started, (first or started) - started
    return Cost(
        seconds=seconds,
        first_token_s=until_first,
        reading_s=until_first,
        writing_s=seconds - until_first,
        num_steps=1,
        **tokens,
    )


class _FirstToken:
    """A streamer of `generate` that only looks at the clock; the first call brings the prompt."""

    def __init__(self) -> None:
        self.calls = 0
        self.at: float | None = None

    def put(self, _ids: Any) -> None:
        self.calls += 1
        if self.calls == 2:
            self.at = time.perf_counter()

    def end(self) -> None:
        """Nothing to do."""


_PROBE: Final = """
import sys
from ranker.bench.peers import load_llama
model = load_llama(sys.argv[1], 1, is_plain=sys.argv[2] == "plain")
next(model.generate(model.tokenize(b"one two three"), temp=0.0))
"""


def load_llama(gguf: str, num_threads: int, *, is_plain: bool) -> Any:
    """llama.cpp's model; `is_plain`: with the weights as they lie in the file, and not laid out anew for this CPU."""
    from llama_cpp import Llama, llama_cpp

    make_default = llama_cpp.llama_model_default_params

    def make_params() -> Any:
        params = make_default()
        params.use_extra_bufts = not is_plain
        return params

    with mock.patch.object(llama_cpp, "llama_model_default_params", make_params):  # `Llama` has no argument for it
        return Llama(gguf, n_ctx=8192, n_threads=num_threads, n_threads_batch=num_threads, verbose=False)


def _runs(gguf: Path, how: str) -> bool:
    """Whether llama.cpp writes a token so; on some CPUs its layout for AMX ends the process, so another one tries."""
    command = [sys.executable, "-c", _PROBE, str(gguf), how]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, check=False)  # noqa: S603
    return done.returncode == 0


def open_llama_cpp(gguf: Path | None, num_threads: int) -> Peer:
    """llama.cpp through `llama-cpp-python`, where it is installed and there is a GGUF file."""
    name = LLAMA_CPP
    if importlib.util.find_spec("llama_cpp") is None:
        return Peer(name, None, "llama-cpp-python is not installed")
    if gguf is None or not gguf.is_file():
        return Peer(name, None, "no GGUF file of the model: give one with --gguf")
    how = next((how for how in ("laid out", "plain") if _runs(gguf, how)), None)
    if how is None:
        return Peer(name, None, f"it cannot run {gguf.name} on this CPU")
    if how == "plain":
        name += ", plain weights"
    model = load_llama(str(gguf), num_threads, is_plain=how == "plain")
    before: list[int] = []

    def ask(prompt: Prompt, think_tokens: int) -> Cost:
        nonlocal before
        started, first = time.perf_counter(), 0.0
        ids = model.tokenize(prompt.text.encode(), add_bos=False, special=True)
        new: list[int] = []
        for token in model.generate(ids, temp=0.0):
            first = first or time.perf_counter()
            if token == model.token_eos():
                break
            new.append(token)
            if len(new) >= think_tokens:
                break
        cached = _common(before, ids)
        before = [*ids, *new]
        return _cost(
            started,
            first,
            prompt_tokens=len(ids),
            cached_tokens=min(cached, len(ids) - 1),
            completion_tokens=len(new),
        )

    return Peer(name, ask, f"weights of {gguf.name}", is_cached=True)


def open_vllm(directory: Path, *, is_eager: bool = False) -> Peer:
    """vLLM where it is installed. Its engine is a process of its own: our memory and threads stay as they are.

    `is_eager`: compile nothing. It starts minutes sooner on a CPU, and may be slower afterwards.
    """
    name = VLLM
    if importlib.util.find_spec("vllm") is None:
        return Peer(name, None, "it is not installed")
    try:
        engine, ask = _start_vllm(directory, is_eager)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        return Peer(name, None, f"it does not start: {str(error).strip().splitlines()[0]}")
    weights = str(engine.model_config.dtype).removeprefix("torch.")
    return Peer(name, ask, f"{weights}, {'not compiled' if is_eager else 'compiled'}", is_cached=True)


def _start_vllm(directory: Path, is_eager: bool) -> tuple[Any, Ask]:
    from transformers import AutoTokenizer
    from vllm import EngineArgs, LLMEngine, SamplingParams, TokensPrompt

    from ranker.backends.vllm import set_environment

    set_environment()
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    engine = LLMEngine.from_engine_args(
        EngineArgs(model=str(directory), enable_prefix_caching=True, enforce_eager=is_eager, generation_config="vllm")
    )
    numbers = itertools.count()

    def ask(prompt: Prompt, think_tokens: int) -> Cost:
        started, first = time.perf_counter(), 0.0
        ids = tokenizer(prompt.text, add_special_tokens=False).input_ids
        params = SamplingParams(max_tokens=think_tokens, temperature=0.0)
        engine.add_request(str(next(numbers)), TokensPrompt(prompt_token_ids=ids), params)
        while engine.has_unfinished_requests():
            for output in engine.step():
                first = first or time.perf_counter()
                done = output
        return _cost(
            started,
            first,
            prompt_tokens=len(ids),
            cached_tokens=done.num_cached_tokens or 0,
            completion_tokens=len(done.outputs[0].token_ids),
        )

    return engine, ask


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common beginning, which llama.cpp does not compute again."""
    length = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        length += 1
    return length
