"""From tasks and corrections to training examples: pools of 2 to n, each with what is known of its exclusions.

The only maker of examples. Every pool is one decision by itself, as the model meets it while it ranks: the same presentation
order, the same prompt. Small and hard pools are drawn more often, because a random policy is right in a large pool anyway
(.95 at 20 candidates, .5 at 2). A fixed share of the tasks, chosen by a hash of the task's id and nothing else, is held out
for measuring: all that anybody says about a held-out task is kept from training. Source of the pools: the paper, section 4;
oversampling, corrections and the held-out share are ours. This module knows neither models nor files.
"""

import hashlib
import itertools
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from ranker.backends.base import Prompt
from ranker.elimination import make_presentation_order
from ranker.prompts import ChatText, render_exclusion, render_fixed_exclusion, render_order
from ranker.schema import Candidate, Correction, CorrectionKind, Domain, Mode, RankingTask, Record
from trainer.orders import Tiers, grade_exclusions, grade_step, tiers_of_correction, tiers_of_labels

_WORD = re.compile(r"[^\W_]{3,}")


class TrainingExample(Record):
    """One decision and what is known of every answer to it."""

    task: RankingTask
    pool: tuple[str, ...]
    """candidate_ids in the order in which the prompt shows them."""
    grades: Mapping[str, float | None]
    """candidate_id -> reward of excluding it in [0, 1]; None = open (see `trainer.orders`). At least two values differ, or
    one is known to be wrong."""
    tiers: Tiers = ()
    """The known order, best first; () where only this one exclusion was judged."""
    mode: Literal[Mode.ITERATIVE, Mode.FIXED_BLOCK, Mode.DIRECT] = Mode.ITERATIVE
    shown: tuple[str, ...] = ()
    """In `fixed-block`: candidate_ids that the prompt prints, those that are gone among them; () = the pool."""
    source: Literal["base", "correction"] = "base"
    correction_ids: tuple[str, ...] = ()

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The pool's candidates, as shown."""
        return tuple(self.task.candidate(i) for i in self.pool)

    @property
    def printed(self) -> tuple[Candidate, ...]:
        """What the prompt prints and numbers: the pool, and in `fixed-block` those that are gone."""
        return tuple(self.task.candidate(i) for i in self.shown or self.pool)

    @property
    def right_ids(self) -> tuple[str, ...]:
        """The best exclusions that are known: those of the highest grade."""
        highest = max(g for g in self.grades.values() if g is not None)
        return tuple(i for i in self.pool if self.grades[i] == highest and highest > 0)

    @property
    def best_id(self) -> str:
        """The first of the pool that is known to be among the best: of the highest tier, else of the lowest grade."""
        if self.tiers:
            return next(i for i in self.pool if i in self.tiers[0])
        return min((i for i in self.pool if self.grades[i] is not None), key=lambda i: self.grades[i] or 0.0)

    def render(self, chat_text: ChatText) -> Prompt:
        """The prompt, byte for byte the one that `ranker.elimination` sends for this pool."""
        if self.mode is Mode.FIXED_BLOCK:
            return render_fixed_exclusion(self.task, self.printed, self.candidates, chat_text)
        render = render_exclusion if self.mode is Mode.ITERATIVE else render_order
        return render(self.task, self.candidates, chat_text)


class ExampleConfig(Record):
    """How many examples are made, and of what kind."""

    num_examples: Annotated[int, Field(ge=1, le=10_000_000)] = 2_000
    seed: int = 0
    min_pool: Annotated[int, Field(ge=2, le=200)] = 2
    max_pool: Annotated[int, Field(ge=2, le=200)] = 20
    small_pools: Annotated[float, Field(ge=0, le=4)] = 1.0
    """P(pool of n) is proportional to n ** -small_pools; 0 = all sizes alike (the paper)."""
    hard_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the pools whose other candidates are those most alike to the best one (words in common)."""
    correction_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the examples that come from corrections, where there are both; the rest replays the base data."""
    held_out_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    domains: tuple[Domain, ...] = ()
    """Only tasks of these are trained on; () = all. The others' held-out tasks are measured all the same (zero-shot)."""
    direct_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the examples that ask for a whole order (mode `direct`)."""
    fixed_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the examples that ask as `fixed-block` does: some of those that the prompt prints are gone."""


class ExampleSet(NamedTuple):
    """What training reads, and what it must not read."""

    train: list[TrainingExample]
    held_out: list[RankingTask]
    """Tasks for measuring, with the relevance that labels say."""
    held_out_corrections: list[Correction]


class _Known(NamedTuple):
    """What one voice says about one task. `grades`: of one fixed pool (a judged step); None = follow the tiers."""

    task: RankingTask
    tiers: Tiers
    pool: tuple[str, ...] | None = None
    grades: Mapping[str, float | None] | None = None
    correction_id: str | None = None


def is_held_out(task_id: str, share: float) -> bool:
    """Is this task kept for measuring? Depends on its id and the share alone, so that it stays so in every later job."""
    digest = hashlib.sha256(f"held-out\0{task_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def latest_corrections(corrections: Iterable[Correction]) -> list[Correction]:
    """Those that no later correction supersedes, in order."""
    every = list(corrections)
    replaced = {c.supersedes for c in every}
    return [c for c in every if c.correction_id not in replaced]


def make_training_examples(
    tasks: Iterable[RankingTask], corrections: Iterable[Correction], config: ExampleConfig
) -> ExampleSet:
    """Draw `config.num_examples` examples. The same arguments give the same examples in the same order.

    Args:
        tasks: with labels (base data) or without (then only corrections speak of them).
        corrections: of these tasks; those of other tasks, superseded ones and flags are left out.
        config: numbers and shares.

    Returns:
        Examples (fewer than asked for only if nothing at all is known), and what was held out.

    Raises:
        DatasetError: if a correction's payload cannot be used.
    """
    by_id = {task.task_id: task for task in tasks}
    held_out = [t for t in by_id.values() if is_held_out(t.task_id, config.held_out_share)]
    kept_apart = {t.task_id for t in held_out}
    trained_on = {i for i, t in by_id.items() if i not in kept_apart and t.domain in (config.domains or Domain)}
    relevant = [c for c in latest_corrections(corrections) if c.task_id in by_id]
    base = [_Known(t, tiers) for t in by_id.values() if t.task_id in trained_on and (tiers := tiers_of_labels(t))]
    said = [k for c in relevant if c.task_id in trained_on and (k := _known_of(c, by_id[c.task_id]))]
    rng = random.Random(config.seed)
    sources = {"base": _endless(base, rng), "correction": _endless(said, rng)}
    share = config.correction_share if base and said else float(bool(said))
    train: list[TrainingExample] = []
    while len(train) < config.num_examples and (base or said):
        source: Literal["base", "correction"] = "correction" if rng.random() < share else "base"
        train.append(_draw(next(sources[source]), source, rng, config))
    return ExampleSet(train, held_out, [c for c in relevant if c.task_id in kept_apart])


def make_held_out_examples(held_out: ExampleSet, limit: int) -> list[TrainingExample]:
    """One decision over the whole pool of each held-out task: what corrections say of it, else what labels say.

    Corrected tasks come first; a task is there once (its last correction), and not at all if nothing is known of it.
    """
    tasks = {t.task_id: t for t in held_out.held_out}
    known = {c.task_id: k for c in held_out.held_out_corrections if (k := _known_of(c, tasks[c.task_id]))}
    for task in held_out.held_out:
        if task.task_id not in known and (tiers := tiers_of_labels(task)):
            known[task.task_id] = _Known(task, tiers)
    made = []
    for k in list(known.values())[:limit]:
        pool = k.pool if k.pool is not None else make_presentation_order(k.task, 0)
        grades = dict(k.grades) if k.grades is not None else grade_exclusions(k.tiers, pool)
        ids = (k.correction_id,) if k.correction_id else ()
        source: Literal["base", "correction"] = "correction" if ids else "base"
        made.append(
            TrainingExample(task=k.task, pool=pool, grades=grades, tiers=k.tiers, source=source, correction_ids=ids)
        )
    return made


def _known_of(correction: Correction, task: RankingTask) -> _Known | None:
    """What a correction says, or None if it says nothing that can be learnt."""
    if correction.kind is CorrectionKind.STEP:
        pool, grades = grade_step(correction, task)
        has_something = any(g is not None for g in grades.values()) and len(pool) >= 2
        return _Known(task, (), pool, grades, correction.correction_id) if has_something else None
    tiers = tiers_of_correction(correction, task)
    return _Known(task, tiers, correction_id=correction.correction_id) if len(tiers) >= 2 else None


def _endless(known: Sequence[_Known], rng: random.Random) -> Iterator[_Known]:
    """All of them in a new random order, again and again: no task is drawn twice before every other was drawn once."""
    while known:
        yield from rng.sample(known, len(known))


def _draw(
    known: _Known, source: Literal["base", "correction"], rng: random.Random, config: ExampleConfig
) -> TrainingExample:
    seed = rng.randrange(2**31)
    mode: Literal[Mode.ITERATIVE, Mode.FIXED_BLOCK, Mode.DIRECT] = Mode.ITERATIVE
    shown: tuple[str, ...] = ()
    if known.pool is not None and known.grades is not None:
        pool, grades = known.pool, dict(known.grades)
    else:
        chosen = _choose_pool(known, rng, config)
        order = make_presentation_order(known.task, seed)
        pool = tuple(i for i in order if i in chosen)
        grades = grade_exclusions(known.tiers, pool)
        lot = rng.random()
        if lot < config.direct_share:
            mode = Mode.DIRECT
        elif lot < config.direct_share + config.fixed_share:
            mode = Mode.FIXED_BLOCK
            gone = [i for i in order if i not in chosen]
            room = min(len(gone), max(0, config.max_pool - len(pool)))
            printed = chosen | set(rng.sample(gone, rng.randint(0, room)))
            shown = tuple(i for i in order if i in printed)
    ids = (known.correction_id,) if known.correction_id else ()
    tiers = tuple(tier for t in known.tiers if (tier := tuple(i for i in t if i in pool)))
    return TrainingExample(
        task=known.task,
        pool=pool,
        grades=grades,
        tiers=tiers,
        mode=mode,
        shown=shown,
        source=source,
        correction_ids=ids,
    )


def _choose_pool(known: _Known, rng: random.Random, config: ExampleConfig) -> set[str]:
    """A better candidate, a worse one, and others up to a random size; hard pools take those most alike to the better."""
    ids = list(known.task.candidate_ids)
    sizes = range(min(config.min_pool, len(ids)), min(max(config.max_pool, config.min_pool), len(ids)) + 1)
    size = rng.choices(sizes, [n**-config.small_pools for n in sizes])[0]
    ranked = sorted(range(len(known.tiers)), key=lambda _: rng.random())[:2]
    better, worse = (rng.choice(known.tiers[level]) for level in sorted(ranked))
    chosen = {better, worse}
    others = [i for i in rng.sample(ids, len(ids)) if i not in chosen]
    if rng.random() < config.hard_share:
        wanted = _words(known.task.candidate(better))
        others.sort(key=lambda i: -_likeness(wanted, _words(known.task.candidate(i))))
    return chosen | set(itertools.islice(others, size - 2))


def _words(candidate: Candidate) -> frozenset[str]:
    return frozenset(_WORD.findall(f"{candidate.title} {candidate.text}".casefold()))


def _likeness(left: frozenset[str], right: frozenset[str]) -> float:
    """Jaccard index of two sets of words."""
    return len(left & right) / max(1, len(left | right))


def count_by_size(examples: Iterable[TrainingExample]) -> dict[int, int]:
    """Pool size -> number of examples."""
    counts: dict[int, int] = defaultdict(int)
    for example in examples:
        counts[len(example.pool)] += 1
    return dict(sorted(counts.items()))
