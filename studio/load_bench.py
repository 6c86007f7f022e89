"""Many people correct at once, measured: is anything lost or doubled, and how long does one wait?

    python -m studio.load_bench --people 10 --corrections 2000

A studio in a process of its own, open to others, on loopback; one thread and one connection a person, each with an account
and a token. People order the tasks of the sample sets, each of them a little differently; when they are through they change
their minds, so that words supersede words. One request in ten is sent twice, as after a lost answer. At the end what the
studio lists is compared with what was sent, and the store is verified. Simulated people say so in their names.
"""

import argparse
import json
import logging
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import numpy as np
from argon2 import PasswordHasher

from ranker.schema import RankingTask
from studio.accounts import Accounts
from studio.library import Library
from studio.permissions import Role
from studio.settings import Settings
from studio.store import Store

log = logging.getLogger("studio.load_bench")

REPEATED: Final = 10
"""One request in so many is sent twice."""
_MISTAKES: Final = 0.25
"""Probability that a person exchanges two neighbours of the order that all of them would give."""
_SERVE: Final = """
import sys
from pathlib import Path
from studio.server import serve
from studio.settings import Settings
settings = Settings(data_dir=Path(sys.argv[1]), port=0, open_browser=False, accounts=True)
serve(settings, on_ready=lambda url: print(url, flush=True), with_pages=sys.argv[2] == "pages")
"""
_PAGE: Final = 1000
_QUICK: Final = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Nobody logs in here: all have tokens."""


class Task(NamedTuple):
    """A task and where it is."""

    dataset: str
    task: RankingTask


class Sent(NamedTuple):
    """What one person sent, and how long each answer took."""

    ids: list[str]
    waits_s: list[float]
    failures: list[str]


def main(argv: list[str]) -> int:
    """Run it. Returns 0 if nothing was lost or doubled and the store is sound."""
    parser = argparse.ArgumentParser(prog="python -m studio.load_bench", description=__doc__.split("\n")[0])
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--corrections", type=int, default=2000, help="altogether")
    parser.add_argument("--data-dir", type=Path, help="where to leave the store (default: it is thrown away)")
    parser.add_argument("--without-pages", action="store_true", help="serve the HTTP routes only")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as thrown_away:
        data_dir = options.data_dir or Path(thrown_away)
        figures = run(data_dir, options.people, options.corrections, with_pages=not options.without_pages)
    for name, value in figures.items():
        log.info("%-24s %s", name, value)
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0 if figures["is_sound"] else 1


def run(data_dir: Path, num_people: int, num_corrections: int, *, with_pages: bool = True) -> dict[str, Any]:
    """Let the people correct, and count. Returns the figures by name."""
    tokens, tasks = _prepare(data_dir, num_people)
    shares = [num_corrections // num_people + (n < num_corrections % num_people) for n in range(num_people)]
    with _serving(data_dir, with_pages) as url:
        sent: list[Sent] = [Sent([], [], []) for _ in tokens]
        people = [
            threading.Thread(target=_correct, args=(url, token, tasks, share, number, sent[number]))
            for number, (token, share) in enumerate(zip(tokens, shares, strict=True))
        ]
        begin = time.monotonic()
        for person in people:
            person.start()
        for person in people:
            person.join()
        wall_s = time.monotonic() - begin
        listed = _listed(url, tokens[0])
    store = Store(Settings(data_dir=data_dir).database_path)
    problems, stored = store.verify(), [c.correction_id for c in store.corrections.search().rows]
    store.close()
    ids = [i for one in sent for i in one.ids]
    waits_ms = np.array([s for one in sent for s in one.waits_s]) * 1000
    failures = [failure for one in sent for failure in one.failures]
    lost, doubled = set(ids) - set(stored), [i for i, number in Counter(stored).items() if number > 1]
    return {
        "people": num_people,
        "corrections": len(ids),
        "requests": len(waits_ms),
        "lost": len(lost),
        "doubled": len(doubled),
        "unasked": len(set(stored) - set(ids)),
        "failures": failures[:5],
        "listed_as_stored": Counter(listed) == Counter(stored),
        "verify": problems,
        "p50_ms": round(float(np.quantile(waits_ms, 0.5)), 1),
        "p95_ms": round(float(np.quantile(waits_ms, 0.95)), 1),
        "max_ms": round(float(waits_ms.max()), 1),
        "wall_s": round(wall_s, 1),
        "requests_per_s": round(len(waits_ms) / wall_s, 1),
        "is_sound": not (lost or doubled or failures or problems)
        and Counter(stored) == Counter(ids) == Counter(listed),
    }


def _prepare(data_dir: Path, num_people: int) -> tuple[list[str], list[Task]]:
    """The sample sets, and an account with a token for each person; the first is a researcher, who may list everything."""
    settings = Settings(data_dir=data_dir)
    settings.make_directories()
    store = Store(settings.database_path)
    try:
        library = Library(store)
        library.seed_samples()
        tasks = [Task(info.name, task) for info in library.datasets() for task in store.datasets.iter_tasks(info.id)]
        accounts, password = Accounts(store, data_dir, hasher=_QUICK), random.SystemRandom().randbytes(16).hex()
        accounts.add("simulated admin", Role.ADMIN, password)
        tokens = []
        for number in range(num_people):
            name = f"simulated {chr(ord('A') + number % 26)}{number // 26 or ''}"
            accounts.add(name, Role.ANNOTATOR if number else Role.RESEARCHER, password)
            tokens.append(accounts.make_token(name))
    finally:
        store.close()
    return tokens, tasks


@contextmanager
def _serving(data_dir: Path, with_pages: bool) -> Iterator[str]:
    """A studio in its own process; its address."""
    command = [sys.executable, "-c", _SERVE, str(data_dir), "pages" if with_pages else "routes"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  # a list, no shell
    assert server.stdout is not None
    try:
        url = server.stdout.readline().strip()
        if not url:
            raise RuntimeError("the studio did not start: see above")
        yield url
    finally:
        server.terminate()
        server.wait(60)


def _correct(url: str, token: str, tasks: Sequence[Task], number: int, person: int, sent: Sent) -> None:
    rng = random.Random(person)
    with httpx.Client(
        base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=60, trust_env=False
    ) as client:
        for turn in range(number):
            dataset, task = tasks[(turn + 7 * person) % len(tasks)]
            correction_id = f"load-{person}-{turn}"
            body = {
                "correction_id": correction_id,
                "dataset": dataset,
                "task_id": task.task_id,
                "author": "whoever has the token",
                "kind": "ranking",
                "payload": {"order": _order(task, rng), "start": "blank"},
                "duration_s": round(rng.uniform(4, 40), 1),
            }
            times = 2 if turn % REPEATED == REPEATED - 1 else 1
            for attempt in range(times):
                begin = time.monotonic()
                answer = client.post("/api/corrections", json=body)
                sent.waits_s.append(time.monotonic() - begin)
                if answer.status_code != (201, 200)[attempt]:
                    sent.failures.append(f"{correction_id}: {answer.status_code}: {answer.text[:120]}")
            sent.ids.append(correction_id)


def _order(task: RankingTask, rng: random.Random) -> list[list[str]]:
    """What everybody would say, with some neighbours exchanged: the relevant ones first, the others by their text's length."""
    relevant = task.relevant_ids
    ids = sorted(task.candidate_ids, key=lambda i: (i not in relevant, len(task.candidate(i).text), i))
    for place in range(len(ids) - 1):
        if rng.random() < _MISTAKES:
            ids[place], ids[place + 1] = ids[place + 1], ids[place]
    top = rng.choice((3, len(ids)))
    return [*([i] for i in ids[:top]), *([ids[top:]] if ids[top:] else [])]


def _listed(url: str, token: str) -> list[str]:
    """Every correction_id that the studio lists."""
    listed: list[str] = []
    with httpx.Client(
        base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=60, trust_env=False
    ) as client:
        while True:
            page = client.get("/api/corrections", params={"offset": len(listed), "limit": _PAGE}).json()
            listed += [row["correction_id"] for row in page["corrections"]]
            if not page["corrections"] or len(listed) >= page["total"]:
                return listed


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    sys.exit(main(sys.argv[1:]))
