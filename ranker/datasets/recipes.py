"""The nine datasets of the paper as presets of builder options. Source: the paper, section 4 (datasets).

A recipe is only options: `data import recipe:rec-movie --from DIR` is the import of DIR with them. What of the paper cannot be
had again (which users it drew, its random seed) is said in `remarks`, which go into the provenance.
"""

from collections.abc import Mapping
from typing import Any

from ranker.datasets.interactions import RECOMMENDATION
from ranker.datasets.passages import PASSAGES
from ranker.datasets.routing import ROUTING
from ranker.errors import DatasetError
from ranker.schema import Record


class Recipe(Record):
    """A named preset."""

    name: str
    builder: str
    """The builder that the options are for; readers of other builders are not considered."""
    summary: str
    options: Mapping[str, Any]
    remarks: tuple[str, ...] = ()


_REC_REMARK = "the paper's about 657 users and its seed are not published: all users with enough titles are kept"
_ROUTER_REMARK = (
    "the paper takes the first model of the row under ties: here every model that ties for the best is relevant"
)


def _recommendation(name: str, what: str) -> Recipe:
    return Recipe(
        name=name,
        builder=RECOMMENDATION.name,
        summary=f"{what}: 20 titles, then the next one among 19 random others; split 80/20 by user",
        options={"history": 20, "num_candidates": 20, "target": "next", "negatives": "uniform"},
        remarks=(_REC_REMARK,),
    )


def _routing(scenario: str, weights: str) -> Recipe:
    return Recipe(
        name=f"router-{scenario}",
        builder=ROUTING.name,
        summary=f"GraphRouter data without multi_news: best of a*effect - b*cost with (a, b) = {weights}",
        options={"scenario": scenario, "exclude_tasks": "multi_news"},
        remarks=(_ROUTER_REMARK,),
    )


def _passage(number: int) -> Recipe:
    return Recipe(
        name=f"passage-{number}",
        builder=PASSAGES.name,
        summary=f"MS MARCO QnA queries with {number} passages, exactly one selected, at most 2,600 characters in all",
        options={"num_passages": number, "fit": "exact", "relevant": "one", "max_chars": 2600},
    )


RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _recommendation("rec-movie", "MovieLens-1M"),
        _recommendation("rec-music", "Amazon CDs and Vinyl"),
        _recommendation("rec-game", "Amazon Video Games"),
        _routing("performance", "(1, 0)"),
        _routing("balance", "(.5, .5)"),
        _routing("cost", "(.2, .8)"),
        _passage(5),
        _passage(7),
        _passage(9),
    )
}


def recipe_named(name: str) -> Recipe:
    """Raises DatasetError with the names there are."""
    recipe = RECIPES.get(name)
    if recipe is None:
        raise DatasetError(f"recipe:{name}: does not exist: use one of {', '.join(RECIPES)}")
    return recipe
