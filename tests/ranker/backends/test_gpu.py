"""What runs on a GPU only: captured steps against plain ones and against transformers. Skipped where there is none.

The other tests of this folder run there too, in float32, with steps captured.
"""

import asyncio
import logging
from pathlib import Path

import pytest
import torch
from test_lean import MODELS, extend, make_model

from ranker.backends import GenerateRequest, Prompt, ScoreRequest
from ranker.backends.forward import TransformersForward
from ranker.backends.graphs import GraphedForward
from ranker.backends.kv import KeyValueRows
from ranker.backends.limits import EngineLimits
from ranker.backends.local import LocalBackend, load_local
from ranker.backends.passes import make_checked

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch can use")

REQUESTS = [
    GenerateRequest(prompt=Prompt("a film " * (1 + i % 4), f"[{i}] one"), max_tokens=4 + 7 * (i % 5)) for i in range(60)
]
QUESTIONS = [
    ScoreRequest(prompt=Prompt("a film " * (i % 3), f"then {i}" + " two" * (i % 4)), continuations=("one", "a [1]"))
    for i in range(20)
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", MODELS)
def test_captured_steps_are_plain_steps_are_those_of_transformers(name: str, dtype: torch.dtype) -> None:
    with torch.device("cuda"):
        model = make_model(*MODELS[name])
    frequencies = model.get_decoder().rotary_emb.inv_freq
    model = model.to("cuda", dtype)
    model.get_decoder().rotary_emb.inv_freq = frequencies.to("cuda")
    lean = make_checked(model)
    assert lean is not None
    ids = torch.randint(0, 97, (3, 20), generator=torch.Generator().manual_seed(1)).to("cuda")
    results = []
    for forward in (TransformersForward(model), lean, GraphedForward(lean)):
        rows = KeyValueRows(model.config, 4, dtype=dtype, device=torch.device("cuda"))
        rows.grow(32, 0)
        with torch.inference_mode(), torch.device("cuda"):
            found = [extend(forward, ids[:2, :9], [0, 0], rows, 0), extend(forward, ids[2:, :5], [0], rows, 2)]
            for step in range(4):
                positions = torch.tensor([9, 9, 5]) + step
                found.append(forward.step(ids[:, 12 + step], positions, 10 + step, rows, is_ragged=True).clone())
            results.append(torch.cat([forward.logits(hidden) for hidden in found]).float().log_softmax(-1))
    assert not forward._is_off
    for one, other in ((results[2], results[1]), (results[1], results[0])):
        off = float((one - other).square().mean().sqrt())
        assert off <= (1e-4 if dtype is torch.float32 else 0.3)  # where log-probabilities spread by 3


def test_many_streams_say_the_same_captured_and_not(tiny_model_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def ask(backend: LocalBackend) -> tuple[list[str], list[tuple[float, ...]]]:
        async def one(request: GenerateRequest) -> str:
            return "".join([chunk.text async for chunk in backend.generate(request)])

        texts = await asyncio.gather(*(one(request) for request in REQUESTS))
        scores = await asyncio.gather(*(backend.score(question) for question in QUESTIONS))
        await backend.aclose()
        return texts, [s.log_probs for s in scores]

    limits = EngineLimits(max_rows=48, start_rows=16)
    with caplog.at_level(logging.WARNING):
        captured = load_local(tiny_model_dir, name="tiny", limits=limits, dtype=torch.float32)
        plain = load_local(tiny_model_dir, name="tiny", limits=limits, dtype=torch.float32, is_graphed=False)
        reference = load_local(tiny_model_dir, name="tiny", dtype=torch.float32, is_reference=True)
        found = [asyncio.run(ask(backend)) for backend in (captured, plain, reference)]
    assert not caplog.records
    assert found[0][0] == found[1][0] == found[2][0]
    for scores in found[1:]:
        for one, other in zip(scores[1], found[0][1], strict=True):
            assert other == pytest.approx(one, abs=1e-3)
