"""The studio's own components: what Gradio has no safe or quick counterpart for."""
