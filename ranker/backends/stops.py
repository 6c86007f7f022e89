"""Where a completion ends because one of its stop strings is complete."""

from collections.abc import Sequence


def end_of_stop(text: str, piece: str, stop: Sequence[str]) -> int | None:
    """Where in `piece`, which follows `text`, the first stop string ends that is complete with it; None if none is."""
    whole = text + piece
    ends = []
    for string in stop:
        found = whole.find(string, max(0, len(text) - len(string) + 1))
        if found >= 0:
            ends.append(found + len(string) - len(text))
    return min(ends) if ends else None
