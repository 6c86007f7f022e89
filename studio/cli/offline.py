"""What the libraries read from the environment when they are imported: no network unasked, and threads that wait asleep."""

from collections.abc import MutableMapping
from typing import Final

OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "3000",
}
"""Only `models add HUB_ID` lifts the first, for a child process. The last two: torch's threads spin some microseconds while they
wait for each other, then sleep. Spinning without end beside a busy browser on two cores made decoding 5 times slower; sleeping
at once made it nearly 2 times slower on a quiet machine (27 against 15 ms a token; so: 16). Measured."""


def go_offline(environment: MutableMapping[str, str]) -> None:
    """Set what is not set yet: somebody who says otherwise is obeyed."""
    for name, value in OFFLINE.items():
        environment.setdefault(name, value)
