"""After set-up nothing needs the network, and nothing may use it unasked."""

from collections.abc import MutableMapping
from typing import Final

OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_NO_USAGE_STATS": "1",
}
"""Read by the libraries when they are imported. Only `models add HUB_ID` lifts the first, for a child process."""


def go_offline(environment: MutableMapping[str, str]) -> None:
    """Set what is not set yet: somebody who says otherwise is obeyed."""
    for name, value in OFFLINE.items():
        environment.setdefault(name, value)
