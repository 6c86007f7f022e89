"""Imports point one way: launch.py -> studio -> trainer -> ranker. Read from the source, not from this process."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {"ranker": {"ranker"}, "trainer": {"trainer", "ranker"}, "studio": {"studio", "trainer", "ranker"}}
PAGES = ("app.py", "theme.py", "pages", "components")
"""The only places of `studio` that know Gradio."""


def imported(path: Path) -> set[str]:
    """Full names of everything that a file imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_no_arrow_points_back(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        found = {name.split(".")[0] for name in imported(path)} & set(ALLOWED)
        assert found <= ALLOWED[package], f"{path.relative_to(ROOT)} imports {sorted(found - ALLOWED[package])}"


def test_only_pages_know_gradio() -> None:
    for path in (ROOT / "studio").rglob("*.py"):
        inside = path.relative_to(ROOT / "studio")
        if inside.parts[0] not in PAGES:
            assert not any(name.split(".")[0] == "gradio" for name in imported(path)), inside


def test_launcher_needs_the_standard_library_only() -> None:
    tops = {name.split(".")[0] for name in imported(ROOT / "launch.py")} | {
        name.split(".")[0] for name in imported(ROOT / "trainer/pip.py")
    }
    ours = {"studio", "trainer", "__future__"}
    assert tops - set(sys.stdlib_module_names) <= ours | {"packaging"}, "packaging is tried, and may be missing"


HEAVY = {"torch", "transformers", "gradio", "sqlalchemy", "sqlmodel", "sqlite3", "trl", "polars", "datasets"}
LIGHT_TRAINER = ("registry", "fetch", "hub", "modelfiles", "pip")
"""What the studio needs of `trainer` to list models."""


def is_engine(path: Path) -> bool:
    """Does the file need torch to be read? Only engines may, and nothing imports them before a model is loaded."""
    tops = [
        node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    names = {alias.name for node in tops if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in tops if isinstance(node, ast.ImportFrom)}
    return path.parent.name == "backends" and any(name.split(".")[0] in HEAVY for name in names)


def test_importing_ranker_and_registry_loads_nothing_heavy() -> None:
    """Whoever only reads tasks or lists models does not wait for torch."""
    files = [path for path in sorted((ROOT / "ranker").rglob("*.py")) if not is_engine(path)]
    files += [ROOT / f"trainer/{name}.py" for name in LIGHT_TRAINER]
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files]
    assert {"ranker.elimination", "ranker.backends", "trainer.registry"} <= set(modules)
    code = f"import sys\nfor m in {modules!r}: __import__(m)\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {name.split(".")[0] for name in run.stdout.split()} & HEAVY
