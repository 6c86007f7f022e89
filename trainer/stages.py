"""The stages of the recipes: which data, how much of it, and what a job is told. `trainer.recipe` draws and trains. Ours."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field

from ranker.schema import Record


class Share(Record):
    """One source and how many of its tasks are taken, drawn at random with the recipe's seed."""

    name: str
    folder: str
    recipe: str
    options: Mapping[str, Any] = {}
    num_tasks: int | None = None
    """None = all."""
    is_said: bool = False
    """The best of its relevance are written as corrections, and its tasks without a label: a penalty on leaving the policy at the start is for
    what is replayed, not for these."""


class Stage(Record):
    """One job, which goes on with the adapter of the one before it."""

    name: str
    shares: tuple[Share, ...]
    config: Mapping[str, Any]
    interpolation: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of the last stage: what is shipped lies between the adapter that it began with (0) and the one that it ended with (1), which keeps more of
    what was learnt before (Wortsman et al. 2022)."""


MOVIES_1M: Final = {"folder": "movies/ml-1m", "recipe": "rec-movie"}
MOVIES_100K: Final = {"folder": "movies/ml-100k", "recipe": "rec-movie"}
GAMES: Final = {"folder": "amazon/games_llmrank", "recipe": "rec-game"}
MUSIC: Final = {"folder": "amazon/cds_vinyl_flower", "recipe": "rec-music"}


def _windows(name: str, source: Mapping[str, str], num_tasks: int | None = None, **options: Any) -> Share:
    """Several tasks a user: what came before any of their items, and that item."""
    return Share(name=name, options={"target": "random", "min_history": 3, **options}, num_tasks=num_tasks, **source)


def _routers(some: int | None = None) -> tuple[Share, ...]:
    name = "router" if some is None else "some-router"
    return tuple(
        Share(name=f"{name}-{s}", folder="routing/llmrouter_9llm", recipe=f"router-{s}", num_tasks=some)
        for s in ("performance", "balance", "cost")
    )


def _passages(*sizes: int) -> tuple[Share, ...]:
    return tuple(Share(name=f"passage-{n}", folder="passage/msmarco_dev_lists", recipe=f"passage-{n}") for n in sizes)


_PAIR: Final = {"num_candidates": 2}  # reading looks at the target alone
_READING: Final = Stage(
    name="reading",
    shares=(
        _windows("movies-1m-read", MOVIES_1M, items_per_task=5, **_PAIR),
        _windows("movies-100k-read", MOVIES_100K, items_per_task=5, **_PAIR),
        _windows("games-read", GAMES, items_per_task=5, **_PAIR),
        _windows("music-read", MUSIC, items_per_task=4, **_PAIR),
        *_routers(),
        *_passages(5, 7),
    ),
    config={
        "kind": "sft",
        "sft": {"teach": "likelihood"},
        "examples": {"num_examples": 69_120, "held_out_share": 0.0},
        "lora": {"rank": 32, "alpha": 64},
        "optimizer": {
            "learning_rate": 1e-3,
            "schedule": "linear",
            "warmup_steps": 40,
            "batch_size": 96,
            "max_steps": 720,
        },
        "max_prompt_tokens": 280,
        "save_every": 240,
    },
)
_BY_PAIRS: Final = {"kind": "titles", "titles": {"loss": "pairs", "answer": "likelihood"}}
_ANY_OTHERS: Final = {"held_out_share": 0.0, "small_pools": 0.0, "hard_share": 0.0}
_COMPARING: Final = Stage(
    name="comparing",
    shares=(
        _windows("movies-1m", MOVIES_1M, 2_400),
        _windows("movies-100k", MOVIES_100K, 2_000),
        _windows("games", GAMES, 3_600),
        _windows("music", MUSIC, 2_400),
        *_routers(),
    ),
    config={
        **_BY_PAIRS,
        "examples": {"num_examples": 5_600, "min_pool": 9, **_ANY_OTHERS},
        "optimizer": {
            "learning_rate": 3e-4,
            "schedule": "linear",
            "warmup_steps": 40,
            "batch_size": 16,
            "max_steps": 350,
        },
        "max_prompt_tokens": 900,
        "save_every": 250,
    },
)
_SEVERAL: Final = {"num_candidates": 24, "num_targets": 5, "min_history": 5, "items_per_task": 1}


def _several(suffix: str, *amounts: int) -> tuple[Share, ...]:
    """Pools of 24 of which up to five were chosen, one after another; so many of films (1M and 100K), games and music."""
    sources = {"movies-1m": MOVIES_1M, "movies-100k": MOVIES_100K, "games": GAMES, "music": MUSIC}
    named = zip(sources.items(), amounts, strict=True)
    return tuple(_windows(f"{name}-{suffix}", source, amount, **_SEVERAL) for (name, source), amount in named)


_COMPARING_SEVERAL: Final = Stage(
    name="comparing-several",
    shares=(
        *_several("several", 14_000, 5_000, 10_000, 12_000),
        *_routers(1_000),
        *_passages(5, 7),
    ),
    config={
        **_BY_PAIRS,
        "examples": {"num_examples": 40_000, "min_pool": 24, "max_pool": 24, **_ANY_OTHERS},
        "optimizer": {
            "learning_rate": 4e-4,
            "schedule": "linear",
            "warmup_steps": 30,
            "batch_size": 40,
            "max_steps": 900,
        },
        "max_prompt_tokens": 1_000,
        "save_every": 250,
    },
)
_NINE: Final = {"history": 10, "num_candidates": 9}


def _typical(scenario: str, num_tasks: int) -> Share:
    """Questions of a scenario with the models that are most often among the best for their kind."""
    return Share(
        name=f"typical-{scenario}",
        folder="routing/llmrouter_9llm",
        recipe=f"router-{scenario}",
        options={"relevance": "typical"},
        num_tasks=num_tasks,
        is_said=True,
    )


_ROUTING: Final = Stage(
    name="routing",
    shares=(
        _typical("performance", 850),
        _typical("balance", 280),
        _typical("cost", 280),
        _windows("movies-1m-9", MOVIES_1M, 90, **_NINE),
        _windows("movies-100k-9", MOVIES_100K, 40, **_NINE),
        _windows("games-9", GAMES, 60, **_NINE),
        _windows("music-9", MUSIC, 60, **_NINE),
        Share(name="some-passage-5", folder="passage/msmarco_dev_lists", recipe="passage-5", num_tasks=12),
    ),
    interpolation=0.75,
    config={
        "kind": "titles",
        "titles": {"loss": "pairs", "answer": "likelihood", "kl_weight": 2.0},
        "examples": {"num_examples": 7_040, "min_pool": 9, "max_pool": 9, "correction_share": 0.8, **_ANY_OTHERS},
        "lora": {"rank": 32, "alpha": 64, "last_layers": 4, "kept_gb": 4.0},
        "optimizer": {
            "learning_rate": 4e-4,
            "schedule": "linear",
            "warmup_steps": 20,
            "batch_size": 16,
            "max_steps": 440,
        },
        "max_prompt_tokens": 700,
        "save_every": 110,
    },
)
_ELIMINATING: Final = Stage(
    name="eliminating",
    shares=(
        *_several("wide", 22_000, 8_000, 15_000, 15_000),
        *_routers(700),
        *_passages(5, 7),
        _typical("performance", 2_000),
        _typical("balance", 1_000),
        _typical("cost", 1_000),
    ),
    config={
        "kind": "ppo-exclusions",
        "titles": {"answer": "likelihood"},
        # gamma 0: an exclusion answers for itself. What is earned after it is mostly the luck of later draws, and what a critic says of that drifts
        "ppo": {"rollout_size": 768, "group_size": 16, "epochs": 1, "gamma": 0.0, "kl_coef": 1e-3},
        "examples": {"num_examples": 70_000, "min_pool": 24, "max_pool": 24, "correction_share": 0.12, **_ANY_OTHERS},
        "lora": {"rank": 32, "alpha": 64},
        "optimizer": {
            "learning_rate": 5e-4,
            "schedule": "linear",
            "warmup_steps": 20,
            "batch_size": 96,
            "max_steps": 448,
        },
        "max_prompt_tokens": 1_000,
        "save_every": 100,
    },
)
_AS_MEASURED: Final = {"num_candidates": 20, "min_history": 10}
CHOOSING: Final[tuple[Share, ...]] = (
    _windows("movies-1m", MOVIES_1M, 110, items_per_task=2, **_AS_MEASURED),
    _windows("movies-100k", MOVIES_100K, 70, items_per_task=4, **_AS_MEASURED),
    _windows("games", GAMES, 100, num_candidates=20),
    _windows("music", MUSIC, 100, num_candidates=20),
    *_routers(),
    *_passages(5, 7, 9),
)
"""What `python -m trainer.recipe choosing` writes: users and queries of the training side that no stage reads."""
_SMALL_POOL: Final = {"history": 10, "num_candidates": 8}
_WORDS: Final = (
    _windows("movies-1m-8", MOVIES_1M, 2_400, **_SMALL_POOL),
    _windows("movies-100k-8", MOVIES_100K, 1_200, **_SMALL_POOL),
    _windows("games-8", GAMES, 3_000, **_SMALL_POOL),
    _windows("music-8", MUSIC, 2_400, **_SMALL_POOL),
    *_routers(1_000),
    *_passages(5),
)
_ANY_POOL: Final = {
    "held_out_share": 0.0,
    "max_pool": 9,
    "small_pools": 0.5,
    "hard_share": 0.2,
    "fixed_share": 0.4,
}
_IMITATING: Final = Stage(
    name="imitating",
    shares=_WORDS,
    config={
        "kind": "sft",
        "examples": {"num_examples": 8_000, **_ANY_POOL},
        "lora": {"rank": 16, "alpha": 32},
        "optimizer": {
            "learning_rate": 1e-3,
            "schedule": "linear",
            "warmup_steps": 20,
            "batch_size": 32,
            "max_steps": 250,
        },
        "max_prompt_tokens": 640,
        "save_every": 250,
    },
)
_EXCLUDING: Final = Stage(
    name="excluding",
    shares=_WORDS,
    config={
        "kind": "ppo",
        "examples": {"num_examples": 12_000, "seed": 1, **_ANY_POOL},
        # a thought names the candidate first, some forty tokens before the reward: lambda below 1 would hardly reach that token
        "ppo": {"rollout_size": 768, "epochs": 1, "lam": 1.0, "max_completion_tokens": 80},
        "optimizer": {"learning_rate": 2e-4, "warmup_steps": 10, "batch_size": 32, "max_steps": 480},
        "max_prompt_tokens": 640,
        "save_every": 100,
    },
)
RECIPES: Final[Mapping[str, tuple[Stage, ...]]] = {
    "ranker": (_READING, _COMPARING, _COMPARING_SEVERAL, _ROUTING),
    "ranker-ppo": (_READING, _COMPARING, _ELIMINATING),
    "reasoner": (_IMITATING, _EXCLUDING),
}
