"""What decides when an engine has no log-probabilities at all (`ScoresUnavailableError`: some hosted servers).

The ladder below the written answer; the first rung that works decides, and the step's `decided_by` says which one it was:
  score         log-probabilities of the pool's titles; of its labels, if the engine can score only those (`ranker.asking`)
  asked_again   the thought is closed, the answer block opened, and the model writes once more: restricted to the pool's labels
                where the engine can do that, else freely, at most `_TRIES` times
  chance        the presentation order, which the seed shuffled: no better than a draw, and recorded as that
The outcome of the first answer stays what it was. This module does not know modes. Ours.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ranker.backends.base import Backend, GenerateRequest, Prompt, Usage
from ranker.events import RankConfig
from ranker.parsing import parse_exclusion, parse_order
from ranker.prompts import ANSWER_CLOSE, ANSWER_OPEN
from ranker.schema import Candidate, Decider

_TRIES: Final = 3
_RETRY_TEMPERATURE: Final = 0.7  # greedy decoding would write the same again
_TOKENS_PER_LABEL: Final = 8

Parse = Callable[[str], Sequence[str]]
"""What was written when asked again -> the candidate_ids that it names, in its order."""


class Named(NamedTuple):
    """An order of the pool as far as the model named it; the others follow in presentation order."""

    order: tuple[str, ...]
    decided_by: Decider
    """`asked_again`, or `chance` if it named nobody."""
    answer: str
    """What it wrote at last."""
    usage: Usage
    """Of all tries."""


async def ask_again(
    prompt: Prompt,
    pool: Sequence[Candidate],
    parse: Parse,
    backend: Backend,
    config: RankConfig,
    choices: Sequence[str] = (),
) -> Named:
    """Have the model write its answer behind `prompt`, which ends where the answer begins.

    Args:
        prompt: up to where the answer is written.
        pool: the candidates in presentation order.
        parse: reads the answer.
        backend: the model.
        config: priority, seed, and the room for an answer.
        choices: what the answer is restricted to, where the engine can do that.
    """
    presented = tuple(c.candidate_id for c in pool)
    usages: list[Usage] = []
    written = ""
    for attempt in range(_TRIES):
        request = GenerateRequest(
            prompt=prompt,
            max_tokens=config.answer_tokens + (0 if choices else _TOKENS_PER_LABEL * len(pool)),
            stop=(ANSWER_CLOSE,),
            temperature=max(config.temperature, _RETRY_TEMPERATURE) if attempt else config.temperature,
            seed=config.seed + attempt,
            priority=config.priority,
            choices=tuple(choices),
        )
        written = ""
        async for chunk in backend.generate(request):
            written += chunk.text
            if chunk.finish is not None:
                usages.append(chunk.usage)
        if named := parse(_as_answer(written, choices)):
            order = (*named, *(i for i in presented if i not in named))
            return Named(order, Decider.ASKED_AGAIN, _bare(written), _sum(usages))
    return Named(presented, Decider.CHANCE, _bare(written), _sum(usages))


def parse_one(pool: Sequence[Candidate], candidates: Sequence[Candidate]) -> Parse:
    """Reads one label of `candidates`, or one title, that must be in `pool`."""
    in_play = {c.candidate_id for c in pool}

    def parse(text: str) -> Sequence[str]:
        found = parse_exclusion(text, candidates).candidate_id
        return (found,) if found in in_play else ()

    return parse


def parse_all(pool: Sequence[Candidate]) -> Parse:
    """Reads an order, complete or not."""
    return lambda text: parse_order(text, pool).candidate_ids


def _as_answer(written: str, choices: Sequence[str]) -> str:
    """Complete the block that the prompt opened. A restricted answer needs no closing; a free one has to close it itself."""
    if ANSWER_OPEN in written:
        return written  # a server that does not go on from the prompt's last words opens the block anew
    closing = ANSWER_CLOSE if written.strip() in choices else ""
    return f"{ANSWER_OPEN}{written}{closing}"


def _bare(written: str) -> str:
    return written.replace(ANSWER_OPEN, "").replace(ANSWER_CLOSE, "").strip()


def _sum(usages: Sequence[Usage]) -> Usage:
    return Usage(*(sum(column) for column in zip(*usages, strict=True)))
