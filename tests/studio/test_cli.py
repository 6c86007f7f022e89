"""The commands as a shell sees them: exit codes, one line of error, files, and what is left after Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ranker.datasets import dump_tasks
from ranker.elimination import IN_FLIGHT
from ranker.schema import Candidate, Domain, RankingTask
from ranker.tracefile import read_traces
from studio.cli import main
from studio.cli.check import pytest_arguments
from studio.cli.parser import make_parser, parse
from trainer.modelcards import ModelCard, write_card

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    for name, delay_s in (("quick", 0.0), ("slow", 0.02)):
        write_card(tmp_path / "data/models", ModelCard(name=name, engine="scripted", options={"delay_s": delay_s}))
    return tmp_path / "data"


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    def task(n: int) -> RankingTask:
        candidates = tuple(Candidate(candidate_id=f"c{i}", text=f"thing {i}") for i in range(4))
        return RankingTask(
            task_id=f"t{n}", domain=Domain.OTHER, query=f"query {n}", candidates=candidates, relevance={"c1": 1}
        )

    path = tmp_path / "tasks.jsonl"
    dump_tasks((task(n) for n in range(6)), path)
    return path


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    try:
        code = main([str(argument) for argument in argv])
    except SystemExit as end:  # argparse
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def rank(capsys: pytest.CaptureFixture[str], data_dir: Path, *argv: object) -> tuple[int, str, str]:
    return run(capsys, "rank", *argv, "--data-dir", data_dir, "--model", "quick")


def test_rank_writes_a_valid_trace_for_every_task(capsys, data_dir: Path, tasks: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.jsonl"
    code, said, _ = rank(capsys, data_dir, tasks, "--out", out, "--json")
    figures = json.loads(said)
    assert code == 0
    assert {trace.task_id for trace in read_traces(out)} == {f"t{n}" for n in range(6)}
    assert (figures["tasks"], figures["valid_permutations"], figures["num_with_relevance"]) == (6, 6, 6)
    assert sum(figures["outcomes"].values()) == 6 * 3
    assert figures["random_mrr"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)


def test_rank_goes_on_behind_a_torn_line(capsys, data_dir: Path, tasks: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.jsonl"
    rank(capsys, data_dir, tasks, "--out", out, "--limit", 3)
    kept = out.read_bytes()
    out.write_bytes(kept + b'{"task_id": "t3", "model": "qui')
    code, said, err = rank(capsys, data_dir, tasks, "--out", out)
    assert code == 0
    assert "the last line was torn: 31 bytes dropped" in err
    assert "6 (3 ranked now, 3 before)" in said
    assert out.read_bytes().startswith(kept), "finished traces are not touched"
    assert [trace.task_id for trace in read_traces(out)] == [f"t{n}" for n in range(6)]


def test_rank_refuses_to_mix_settings_in_one_file(capsys, data_dir: Path, tasks: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.jsonl"
    rank(capsys, data_dir, tasks, "--out", out, "--limit", 1)
    before = out.read_bytes()
    code, _, err = rank(capsys, data_dir, tasks, "--out", out, "--seed", 5)
    assert (code, err) == (2, f"{out}:1: seed: 0: this run has 5: use the same settings or another --out\n")
    assert out.read_bytes() == before


def test_rank_twice_gives_the_same_traces(capsys, data_dir: Path, tasks: Path) -> None:
    def rankings(text: str) -> list[tuple[str, list[str]]]:
        return sorted((trace["task_id"], trace["ranking"]) for trace in map(json.loads, text.splitlines()))

    _, first, err = rank(capsys, data_dir, tasks)
    _, second, _ = rank(capsys, data_dir, tasks, "--batch", 1)
    assert rankings(first) == rankings(second)
    assert len(rankings(first)) == 6
    assert "MRR" in err, "without --out the figures do not mix with the traces"


def test_rank_takes_a_stored_dataset_by_name(capsys, data_dir: Path, tasks: Path) -> None:
    assert run(capsys, "data", "import", tasks, "--as", "mine", "--data-dir", data_dir)[0] == 0
    code, out, _ = rank(capsys, data_dir, "mine", "--limit", 2)
    assert (code, len(out.splitlines())) == (0, 2)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["rank", "nowhere.jsonl"], "nowhere.jsonl: file: not found"),
        (["rank", "nothing"], "no such dataset: known are"),
        (["rank", "TASKS", "--mode", "backwards"], "choose one of iterative, direct"),
        (["rank", "TASKS", "--model", "nobody"], "known are quick, slow"),
        (["rank", "TASKS", "--think-tokens", "-1"], "--think-tokens: -1"),
        (["rank", "TASKS", "--limit", "0"], "--limit"),
        (["rank", "BROKEN"], "broken.jsonl:1: "),
        (["data", "import", "BROKEN", "--as", "x"], "broken.jsonl:1: "),
        (["data", "export", "nothing", "--out", "x.jsonl"], "no such dataset"),
        (["data"], "ACTION"),
        (["models", "add", "/nowhere", "--as", "up/../there"], "--as"),
        (["models", "promote", "nobody"], "no such model"),
        (["restore", "TASKS"], "is not a backup"),
        (["serve", "--port", "99999", "--model", "quick"], "port: 99999"),
        (["serve", "--model", "nobody"], "no such model"),
        (["fly"], "invalid choice: 'fly'"),
        (["rank", "TASKS", "--fly"], "--fly"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    capsys, data_dir: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], says: str
) -> None:
    monkeypatch.setenv("STUDIO_DATA_DIR", str(data_dir))
    broken = tasks.with_name("broken.jsonl")
    broken.write_text('{"task_id": "a"}\n')
    places = {"TASKS": str(tasks), "BROKEN": str(broken)}
    code, out, err = run(capsys, *(places.get(argument, argument) for argument in argv))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and says in err, err


def test_taken_port_is_one_line(capsys, data_dir: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = run(capsys, "serve", "--port", port, "--model", "quick", "--no-browser", "--data-dir", data_dir)
    assert code == 2
    assert f"port: {port}" in err.splitlines()[-1] and "Traceback" not in err


def test_damaged_database_is_one_line_and_exit_1(capsys, data_dir: Path) -> None:
    (data_dir / "studio.db").write_bytes(b"this is no database at all, " * 100)
    code, _, err = run(capsys, "data", "list", "--data-dir", data_dir)
    assert code == 1
    assert err.count("\n") == 1 and "studio.db" in err


def test_data_goes_in_and_comes_out_the_same(capsys, data_dir: Path, tasks: Path, tmp_path: Path) -> None:
    run(capsys, "data", "import", tasks, "--as", "mine", "--data-dir", data_dir)
    code, out, _ = run(capsys, "data", "list", "--json", "--data-dir", data_dir)
    mine = next(info for info in json.loads(out) if info["name"] == "mine")
    assert (code, mine["num_tasks"], mine["version"]) == (0, 6, 1)
    assert run(capsys, "data", "export", "mine@1", "--out", tmp_path / "out.jsonl", "--data-dir", data_dir)[0] == 0
    assert (tmp_path / "out.jsonl").read_bytes() == tasks.read_bytes()


def test_models_can_be_listed_and_promoted(capsys, data_dir: Path) -> None:
    assert run(capsys, "models", "promote", "slow", "--data-dir", data_dir)[0] == 0
    code, out, _ = run(capsys, "models", "list", "--json", "--data-dir", data_dir)
    assert code == 0
    assert {card["name"]: card["is_default"] for card in json.loads(out)} == {"slow": True, "quick": False}
    assert "slow *" in run(capsys, "models", "list", "--data-dir", data_dir)[1]


def test_verify_tells_what_it_found(capsys, data_dir: Path) -> None:
    assert run(capsys, "verify", "--data-dir", data_dir)[0] == 0
    (data_dir / "models/quick/model.json").write_text("{")
    code, out, err = run(capsys, "verify", "--data-dir", data_dir)
    assert code == 1
    assert "1 problems" in out and "model.json" in err
    broken = data_dir / "evaluations" / "20261126-101112-ab12"
    broken.mkdir(parents=True)
    (broken / "request.json").write_text("{")
    code, out, err = run(capsys, "verify", "--data-dir", data_dir)
    assert code == 1
    assert "1 evaluations: 2 problems" in out and "20261126-101112-ab12: request.json: cannot be read" in err


def test_backup_and_restore(capsys, data_dir: Path, tasks: Path, tmp_path: Path) -> None:
    run(capsys, "data", "import", tasks, "--as", "mine", "--data-dir", data_dir)
    assert run(capsys, "backup", tmp_path / "b.zip", "--data-dir", data_dir)[0] == 0
    assert run(capsys, "restore", tmp_path / "b.zip", "--data-dir", tmp_path / "other")[0] == 0
    assert "mine" in run(capsys, "data", "list", "--data-dir", tmp_path / "other")[1]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_keeps_what_is_finished(data_dir: Path, tasks: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.jsonl"
    argv = ["rank", str(tasks), "--model", "slow", "--out", str(out), "--batch", "1", "--data-dir", str(data_dir)]
    code = f"import sys; from studio.cli import main; sys.exit(main({argv!r}))"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # also where the test run ignores Ctrl-C
    )
    deadline = time.monotonic() + 30
    while not (out.exists() and out.read_bytes().count(b"\n") >= 1):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said, err = process.communicate(timeout=20)
    finished = list(read_traces(out))
    assert process.returncode == 130, err
    assert 1 <= len(finished) < 6
    assert f"Stopped after {len(finished)} of 6 tasks" in err and "Traceback" not in err
    assert f"{len(finished)} ranked now" in said


def test_mistake_in_the_program_is_one_line(data_dir: Path) -> None:
    code = (
        "import sys, studio.cli.models as m\n"
        "def broken(_): raise KeyError('x')\n"
        "m._open = broken\n"
        "from studio.cli import main; sys.exit(main(['models', 'list']))"
    )
    for debug, num_lines in (("0", 1), ("1", 5)):
        environment = {**os.environ, "STUDIO_DEBUG": debug}
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert run.returncode == 1
        assert len(run.stderr.splitlines()) >= num_lines
        assert ("Traceback" in run.stderr) is (debug == "1")


def test_quick_commands_load_neither_torch_nor_gradio(data_dir: Path) -> None:
    code = (
        "import sys; from studio.cli import main\n"
        f"main(['data', 'list', '--data-dir', {str(data_dir)!r}]); main(['models', 'list', '--data-dir', {str(data_dir)!r}])\n"
        "print(sorted({'torch', 'gradio', 'transformers', 'polars'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("line", [["rank", "x.jsonl", "--out", "y.jsonl"], ["eval"]])
def test_as_many_tasks_are_in_flight_as_everywhere(line: list[str]) -> None:
    """The commands say the number themselves, because their help loads nothing."""
    assert make_parser().parse_args(line).batch == IN_FLIGHT


def test_serve_is_the_default_command() -> None:
    assert parse([]).command == "serve"
    assert parse(["--port", "1"]).port == 1
    assert parse(["test", "-k", "x", "tests/a.py"]).rest == ["-k", "x", "tests/a.py"]


@pytest.mark.parametrize(
    ("said", "num_cores", "expected"),
    [
        ([], 2, ["-n", "2"]),
        ([], 64, ["-n", "4"]),
        ([], 1, []),
        (["-k", "launch", "-x"], 2, ["-k", "launch", "-x"]),
        (["-n", "8"], 2, ["-n", "8"]),
    ],
)
def test_all_tests_share_the_cores_and_what_is_said_goes_to_pytest(
    said: list[str], num_cores: int, expected: list[str]
) -> None:
    assert pytest_arguments(said, num_cores) == expected


def leaves(parser, name: str = ""):
    """Every command that can be called, with its parser."""
    groups = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    if not groups:
        yield name.strip(), parser
    for choices in groups:
        for word, child in choices.items():
            yield from leaves(child, f"{name} {word}")


@pytest.mark.parametrize(("name", "parser"), list(leaves(make_parser())))
def test_every_command_has_help_with_an_example_that_parses(name: str, parser) -> None:
    text = parser.format_help()
    assert "--data-dir" in text
    examples = [line.strip() for line in text.split("example", 1)[1].splitlines() if "python launch.py" in line]
    assert examples
    for line in examples:
        assert line.startswith(f"python launch.py {name}")
        parse(line.split()[2:])
