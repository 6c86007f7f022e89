"""The load test in small: several people at once through real HTTP, with repeated requests and changed minds."""

from pathlib import Path

from studio.load_bench import REPEATED, run


def test_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    figures = run(tmp_path, num_people=4, num_corrections=4 * (REPEATED + 2), with_pages=False)
    assert figures["is_sound"], figures
    assert (figures["corrections"], figures["requests"]) == (48, 52)
    assert (figures["lost"], figures["doubled"], figures["unasked"], figures["verify"]) == (0, 0, 0, [])
