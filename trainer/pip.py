"""What pip said, in one line. Standard library only: `launch.py` uses it before anything is installed."""

import re
import tempfile
from pathlib import Path
from typing import Final

NO_INDEX: Final = re.compile(
    r"NewConnectionError|Failed to establish|NameResolutionError|Name or service not known|Temporary failure in name|"
    r"Network is unreachable|ReadTimeout|ConnectTimeout|Connection (?:refused|aborted|reset)|ProxyError|from versions: none"
)
"""Signs in pip's output that no package index answered."""
MAX_REASON_CHARACTERS: Final = 300


def explain_failure(output: str, place: Path) -> str:
    """Why pip failed and what to do: `reason: fix`, without a full stop.

    Args:
        output: the end of what pip wrote.
        place: where its result was to go, named where there is no room left.
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    reason = ((errors[:1] or lines[-1:]) or ["no message"])[0][:MAX_REASON_CHARACTERS]
    if "No space left" in output:
        return f"no space left: free some in {place} and {tempfile.gettempdir()}"
    if NO_INDEX.search(output):
        return f"{reason}: connect to the network or check pip's index settings"
    if "pip" in reason and "No module named" in reason:
        return "not in this environment: install pip into it, or start with `python launch.py`"
    return f"{reason}: mend what it names"


def describe_line(line: str, num_collected: int) -> str | None:
    """What a line of pip's output says about progress; None = nothing.

    Args:
        line: one line of output.
        num_collected: packages that pip has looked up so far, this line included.
    """
    if match := re.match(r"Collecting ([\w.\-\[\]]+)", line):
        return f"collecting {num_collected}: {match[1]}"
    if match := re.match(r"\s+Downloading (\S+)(?: \(([^)]+)\))?", line):
        return f"downloading {match[1].rsplit('/', 1)[-1]} {match[2] or ''}".rstrip()
    if line.startswith("Installing collected packages:"):
        return f"installing {line.count(',') + 1} packages"
    return "the package index does not answer, trying again" if "Retrying (" in line else None
