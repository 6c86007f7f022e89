"""What Gradio is told about looks: fonts, its own colours, and where the one style sheet and the client script are.

The tokens of colour, space and type live in `assets/studio.css`; this module points Gradio's variables at them, so that its
controls and our components cannot differ. It knows no page.
"""

from gradio.themes import Base, LocalFont

ASSETS_URL = "/studio-assets"
"""Where the app serves `assets/`. Not `/assets`: Gradio's own bundle lives there."""

HEAD = f"""<link rel="stylesheet" href="{ASSETS_URL}/studio.css">
<link rel="stylesheet" href="{ASSETS_URL}/correct.css">
<link rel="icon" type="image/svg+xml" href="{ASSETS_URL}/studio.svg">
<script type="module" src="{ASSETS_URL}/studio.js"></script>"""

WEIGHTS = (400, 700)
"""The weights whose bundled files are complete; the semi-bold ones lack the basic letters."""

_COLOURS = {
    "body_background_fill": "paper",
    "body_text_color": "ink",
    "body_text_color_subdued": "ink-2",
    "background_fill_primary": "raised",
    "background_fill_secondary": "sunken",
    "border_color_primary": "line",
    "border_color_accent": "accent",
    "color_accent_soft": "accent-soft",
    "link_text_color": "accent-ink",
    "link_text_color_hover": "accent-ink",
    "link_text_color_active": "accent-ink",
    "link_text_color_visited": "accent-ink",
    "block_background_fill": "clear",
    "block_border_color": "line",
    "block_label_background_fill": "clear",
    "block_label_text_color": "ink-2",
    "block_title_text_color": "ink-2",
    "block_info_text_color": "ink-2",
    "panel_background_fill": "clear",
    "input_background_fill": "raised",
    "input_background_fill_focus": "raised",
    "input_border_color": "line-strong",
    "input_border_color_focus": "accent",
    "input_border_color_hover": "ink-3",
    "input_placeholder_color": "ink-3",
    "button_primary_background_fill": "accent",
    "button_primary_background_fill_hover": "accent-strong",
    "button_primary_border_color": "accent",
    "button_primary_text_color": "on-accent",
    "button_secondary_background_fill": "raised",
    "button_secondary_background_fill_hover": "sunken",
    "button_secondary_border_color": "line-strong",
    "button_secondary_text_color": "ink",
    "checkbox_background_color": "raised",
    "checkbox_background_color_selected": "accent",
    "checkbox_border_color": "line-strong",
    "checkbox_border_color_selected": "accent",
    "checkbox_label_background_fill": "raised",
    "checkbox_label_background_fill_hover": "sunken",
    "checkbox_label_background_fill_selected": "accent-soft",
    "checkbox_label_border_color": "line-strong",
    "checkbox_label_text_color": "ink",
    "checkbox_label_text_color_selected": "ink",
    "slider_color": "accent",
    "loader_color": "accent",
    "error_background_fill": "bad-soft",
    "error_border_color": "bad",
    "error_text_color": "bad",
}


def make_theme() -> Base:
    """Gradio's plain theme in the studio's tokens, the same variables in light and dark (the tokens change, not these)."""
    theme = Base(
        primary_hue="slate",
        neutral_hue="slate",
        font=[LocalFont("IBM Plex Sans", weights=WEIGHTS), "ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=[LocalFont("IBM Plex Mono", weights=WEIGHTS), "ui-monospace", "Consolas", "monospace"],
    )
    colours: dict[str, str] = {}
    for name, token in _COLOURS.items():
        colours[name] = f"var(--rs-{token})"
        if hasattr(theme, f"{name}_dark"):
            colours[f"{name}_dark"] = f"var(--rs-{token})"
    shape = {
        "block_border_width": "0px",
        "block_padding": "0px",
        "block_shadow": "none",
        "block_radius": "0px",
        "block_title_text_size": "var(--rs-text-s)",
        "block_title_text_weight": "400",
        "block_label_text_weight": "400",
        "input_border_width": "1px",
        "checkbox_label_border_width": "1px",
        "input_radius": "var(--rs-radius)",
        "input_padding": "7px 10px",
        "input_text_size": "var(--rs-text-m)",
        "input_shadow": "none",
        "input_shadow_focus": "none",
        "button_large_radius": "var(--rs-radius)",
        "button_medium_radius": "var(--rs-radius)",
        "button_small_radius": "var(--rs-radius)",
        "button_large_text_weight": "700",
        "button_medium_text_weight": "400",
        "button_large_text_size": "var(--rs-text-m)",
        "button_medium_text_size": "var(--rs-text-m)",
        "button_large_padding": "9px 16px",
        "button_medium_padding": "7px 12px",
        "button_primary_shadow": "none",
        "button_secondary_shadow": "none",
        "checkbox_label_padding": "6px 10px",
        "checkbox_label_text_size": "var(--rs-text-m)",
        "form_gap_width": "0px",
        "layout_gap": "var(--rs-space-4)",
        "section_header_text_weight": "700",
    }
    return theme.set(**colours, **shape)
