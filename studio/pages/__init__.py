"""The pages: one file each, one route each, put together here."""

from typing import NamedTuple

import gradio as gr

from studio.components.static import page_head
from studio.context import Context
from studio.pages.correct import build as build_correct
from studio.pages.data import build as build_data
from studio.pages.evaluate import build as build_evaluate
from studio.pages.quality import build as build_quality
from studio.pages.rank import build as build_rank
from studio.pages.traces import build as build_traces
from studio.pages.train import build as build_train


class Page(NamedTuple):
    """A page's name in the bar and its path."""

    name: str
    path: str


RANK = Page("Rank", "")
CORRECT = Page("Correct", "correct")
TRACES = Page("Traces", "traces")
DATA = Page("Data", "data")
QUALITY = Page("Quality", "quality")
TRAIN = Page("Train", "train")
EVALUATE = Page("Evaluate", "evaluate")


def build_pages(context: Context) -> gr.Blocks:
    """All pages of the studio. Styles and theme are given to Gradio where it is mounted (`studio.theme`)."""
    with gr.Blocks(title="Ranking Studio", fill_width=True, analytics_enabled=False) as demo:
        _bar()
        page_head("Rank", "Watch a model reason, exclude, and rank.")
        build_rank(context)
    for page, build, words in (
        (CORRECT, build_correct, "Put the model’s ranking right: one drag, one key. Nothing that you say is lost."),
        (TRACES, build_traces, "Every ranking, step by step: search, read, compare, export."),
        (TRAIN, build_train, "Fold corrections into the model, and see whether it ranks better."),
        (EVALUATE, build_evaluate, "Which model and mode is better, by how much, and how sure that is."),
        (DATA, build_data, "The tasks to rank: import, look, delete."),
        (
            QUALITY,
            build_quality,
            "How far people agree, with each other and with the models; and the last word on a task.",
        ),
    ):
        with demo.route(page.name, page.path):
            _bar()
            page_head(page.name, words)
            build(context)
    return demo


def _bar() -> None:
    gr.Navbar(main_page_name=RANK.name)
