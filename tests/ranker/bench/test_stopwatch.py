"""What a ranking's time is taken apart into, on a clock that only calls move."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from ranker.backends.base import Chunk, Finish, GenerateRequest, Prompt, ScoreRequest, Scores
from ranker.backends.scripted import ScriptedBackend
from ranker.bench.journal import Cost, Key, Measurement
from ranker.bench.report import make_summary, to_markdown
from ranker.bench.stopwatch import Stopwatch


class SlowBackend(ScriptedBackend):
    """Reads for 3 s, writes two pieces in 2 s each, scores in 5 s."""

    now = 0.0

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Chunk]:
        self.now += 3
        yield Chunk("a")
        self.now += 2
        yield Chunk("b")
        self.now += 2
        yield Chunk("", Finish.STOP)

    async def score(self, request: ScoreRequest) -> Scores:
        await asyncio.sleep(0)  # so that calls that run together overlap
        self.now += 5
        return Scores((0.0,), (1,))


PROMPT = Prompt("", "p")


def test_reading_ends_with_the_first_piece() -> None:
    slow = SlowBackend()
    watch = Stopwatch(slow, lambda: slow.now)

    async def work() -> str:
        return "".join([c.text async for c in watch.generate(GenerateRequest(prompt=PROMPT, max_tokens=4))])

    assert asyncio.run(work()) == "ab"
    assert watch.seconds == {"reading": 3, "writing": 4, "scoring": 0}


def test_calls_that_run_together_count_once() -> None:
    slow = SlowBackend()
    watch = Stopwatch(slow, lambda: slow.now)
    request = ScoreRequest(prompt=PROMPT, continuations=("x",))

    async def work() -> None:
        await asyncio.gather(watch.score(request), watch.score(request))
        await watch.score(request)

    asyncio.run(work())
    assert watch.seconds["scoring"] == 15  # 10 for the pair, not 15; then 5


def test_costs_add_up_and_repeat() -> None:
    first = Cost(seconds=2, first_token_s=0.5, num_steps=1, prompt_tokens=10, reading_s=0.5)
    later = Cost(seconds=1, first_token_s=0.1, num_steps=1, prompt_tokens=5, scoring_s=1, is_sampled=True)
    whole = first + later.repeated(3)
    assert (whole.seconds, whole.num_steps, whole.prompt_tokens) == (5, 4, 25)
    assert (whole.first_token_s, whole.reading_s, whole.scoring_s, whole.is_sampled) == (0.5, 0.5, 3, True)


def test_the_report_takes_live_rankings_apart() -> None:
    cost = Cost(seconds=10, reading_s=2, writing_s=4, scoring_s=3, completion_tokens=200)
    found = [Measurement.of(Key("live", "ours, fixed-block", "titles", 20), cost=cost)]
    found.append(Measurement.of(Key("bulk", "ours, fixed-block", "titles", 20), cost=Cost(seconds=1)))
    text = to_markdown(make_summary(found, {"parameters": 1, "bytes_per_parameter": 4}))
    assert "| 20 titles | ours, fixed-block | 10.0 | 2.0 | 4.0 | 50 | 3.0 | 1.0 |" in text
    assert text.count("| 20 titles |") == 1


@pytest.mark.parametrize("part", ["reading_s", "writing_s", "scoring_s"])
def test_what_was_measured_before_parts_were_has_no_table(part: str) -> None:
    found = [Measurement.of(Key("live", "m", "titles", 20), cost=Cost(seconds=1))]
    summary = make_summary(found, {"parameters": 1, "bytes_per_parameter": 4})
    assert summary["cases"][0]["methods"][0][part] == 0
    assert "Where a live" not in to_markdown(summary)
