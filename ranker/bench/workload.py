"""Tasks of any size, made from words of our own: titles of about five tokens, or passages of about 110."""

import random
from typing import Final, Literal, get_args

from ranker.schema import Candidate, Domain, RankingTask

Kind = Literal["titles", "passages"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
PASSAGE_WORDS: Final = 84  # about 110 tokens

_FIRST: Final = [
    "Silent",
    "Golden",
    "Hidden",
    "Broken",
    "Distant",
    "Burning",
    "Frozen",
    "Crimson",
    "Electric",
    "Wandering",
    "Last",
    "Second",
    "Paper",
    "Iron",
]
_SECOND: Final = [
    "River",
    "Garden",
    "Empire",
    "Letter",
    "Harbour",
    "Mountain",
    "Signal",
    "Orchard",
    "Mirror",
    "Station",
    "Winter",
    "Compass",
    "Theatre",
]
_PLAIN: Final = [
    "the",
    "water",
    "moves",
    "slowly",
    "through",
    "a",
    "narrow",
    "valley",
    "before",
    "it",
    "reaches",
    "several",
    "small",
    "towns",
    "where",
    "people",
    "have",
    "worked",
    "with",
    "wood",
    "and",
    "stone",
    "for",
    "many",
    "years",
    "and",
    "most",
    "of",
    "them",
    "know",
    "how",
    "to",
    "repair",
    "an",
    "engine",
    "or",
    "read",
    "an",
    "old",
    "map",
    "when",
    "there",
    "is",
    "little",
    "light",
    "so",
    "that",
    "visitors",
    "often",
    "ask",
    "about",
    "prices",
    "distances",
    "weather",
    "food",
    "and",
    "the",
    "time",
    "of",
    "the",
    "next",
    "train",
]


def make_speed_task(kind: Kind, num_candidates: int, seed: int) -> RankingTask:
    """The same arguments give the same task; another seed shares no prefix with it but the instructions."""
    rng = random.Random(f"{kind} {num_candidates} {seed}")
    titles: dict[str, None] = {}
    while len(titles) < num_candidates:
        titles[f"{rng.choice(_FIRST)} {rng.choice(_SECOND)} {rng.randint(2, 999)}"] = None
    texts = list(titles)
    if kind == "passages":
        texts = [f"{title}: {' '.join(rng.choices(_PLAIN, k=PASSAGE_WORDS))}." for title in texts]
    candidates = tuple(
        Candidate(candidate_id=f"c{i}", text=text, metadata={"title": title})
        for i, (text, title) in enumerate(zip(texts, titles, strict=True))
    )
    domain = Domain.RECOMMENDATION if kind == "titles" else Domain.PASSAGE
    history = tuple(f"{rng.choice(_FIRST)} {rng.choice(_SECOND)}" for _ in range(5)) if kind == "titles" else ()
    query = "" if kind == "titles" else f"What is said about {rng.choice(_PLAIN)} and {rng.choice(_PLAIN)} {seed}?"
    return RankingTask(
        task_id=f"{kind}-{num_candidates}-{seed}", domain=domain, query=query, history=history, candidates=candidates
    )


def twin(task: RankingTask, number: int) -> RankingTask:
    """The same task with another number (0 to 899) at its head: as long as every twin, and nothing of its prompt is computed yet."""
    if task.history:
        return task.model_copy(update={"history": (f"{task.history[0]} {100 + number}", *task.history[1:])})
    return task.model_copy(update={"query": f"{100 + number}: {task.query}"})
