"""Fixed pieces of a page. Only our own words ever go in here: this is the one place where markup is written in Python."""

import html

import gradio as gr


def page_head(title: str, words: str) -> gr.HTML:
    """The page's one heading, and what the page is for in a sentence."""
    markup = f'<header class="rs-page-head"><h1>{html.escape(title)}</h1><p>{html.escape(words)}</p></header>'
    return gr.HTML(markup, apply_default_css=False, elem_classes=["rs-view"])


def section_title(title: str) -> gr.HTML:
    """The heading of a part of a page."""
    markup = f'<h2 class="rs-section-title">{html.escape(title)}</h2>'
    return gr.HTML(markup, apply_default_css=False, elem_classes=["rs-view"])


def hint(words: str) -> gr.HTML:
    """A line of small print."""
    markup = f'<p class="rs-sub">{html.escape(words)}</p>'
    return gr.HTML(markup, apply_default_css=False, elem_classes=["rs-view"])
