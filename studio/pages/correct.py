"""The Correct page: people fix rankings. What lies on whose desk is `studio.desk`; the page itself is `assets/js/correct.js`.

Gradio only says which datasets there are. Everything after that goes over `/api/desk`, because a lost connection must not
lose anything: the browser keeps what was said until it was answered.
"""

from typing import Any

from studio.components.correct import Correct, DatasetOption, correct_view
from studio.components.notice import Notice
from studio.context import Context
from studio.corrections import MAX_OVERLAP
from studio.pages.tasklist import dataset_name
from studio.pages.wiring import page_load, wire


def build(context: Context) -> None:
    """Lay out the page and wire it."""
    notice = Notice(elem_id="notice")
    desk = Correct(elem_id="correct")

    def load() -> tuple[Any, ...]:
        options = [DatasetOption(str(i.id), dataset_name(i), i.num_tasks) for i in context.library.datasets()]
        return (correct_view(options, max_overlap=MAX_OVERLAP),)

    wire(page_load(), load, [], [desk], notice)
