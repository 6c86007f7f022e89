"""The seam between Gradio and our own components: a place on the page that the client script fills.

Gradio compiles an HTML template as code, so no data ever enters one: the template is a fixed, empty place, the value travels
as JSON, and the client script writes it as text nodes. Knows no component in particular.
"""

from abc import ABCMeta
from typing import Any

import gradio as gr
from gradio.component_meta import ComponentMeta, updateable

_PLACE = '<div class="rs-place"></div>'

_MOUNT = """const gradio = {element, props, trigger, watch};
const mount = () => window.Studio.mount(%(kind)s, gradio);
if (window.Studio) mount(); else window.addEventListener("studio:ready", mount, {once: true});
/* events: %(events)s */"""


class QuietMeta(ComponentMeta):  # type: ignore[misc]  # Gradio has no types that mypy can follow
    """Makes the class as Gradio's own does, but leaves out the .pyi file that it writes beside the source each time."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
        if "__init__" in namespace:
            namespace["__init__"] = updateable(namespace["__init__"])
        return ABCMeta.__new__(cls, name, bases, namespace)


class View(gr.HTML, metaclass=QuietMeta):  # type: ignore[misc]
    """A component whose value is JSON and whose looks are made in the browser (`assets/js/<kind>.js`)."""

    kind = ""
    """The name under which `assets/studio.js` knows it."""
    emits: tuple[str, ...] = ()
    """Names of the events that the browser side triggers."""

    def __init__(
        self, value: Any = None, *, elem_id: str | None = None, visible: bool = True, render: bool = True
    ) -> None:
        script = _MOUNT % {"kind": repr(self.kind), "events": " ".join(repr(name) for name in self.emits)}
        super().__init__(
            value=value,
            html_template=_PLACE,
            js_on_load=script,
            apply_default_css=False,
            elem_id=elem_id,
            elem_classes=["rs-view"],
            visible=visible,
            render=render,
        )

    def preprocess(self, payload: Any) -> Any:
        """Nothing comes back from the browser unless a component says what and checks it."""
        return None

    def postprocess(self, value: Any) -> Any:
        """As it is: the value must be JSON."""
        return value

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}

    def example_payload(self) -> Any:
        return None

    def example_value(self) -> Any:
        return None


def text_of(payload: Any, key: str, max_chars: int = 256) -> str | None:
    """A string that the browser sent under `key`; None for anything else, however it is shaped."""
    value = payload.get(key) if isinstance(payload, dict) else None
    return value if isinstance(value, str) and 0 < len(value) <= max_chars else None


def number_of(payload: Any, key: str, most: int = 2**53) -> int | None:
    """A whole number from 0 to `most` that the browser sent under `key`; None for anything else."""
    value = payload.get(key) if isinstance(payload, dict) else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= most else None
