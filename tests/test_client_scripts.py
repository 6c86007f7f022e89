"""The client's modules fit together: a name that one imports is exported by the other. A browser says so only by an empty page."""

import re
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "assets"
IMPORT = re.compile(r"""^import \{([^}]*)\} from "(\.[^"]+)";""", re.MULTILINE)
EXPORT = re.compile(r"^export (?:async )?(?:function|const|let|class) (\w+)", re.MULTILINE)


def test_every_name_that_a_module_imports_is_exported() -> None:
    missing = []
    for script in sorted(SCRIPTS.rglob("*.js")):
        for names, path in IMPORT.findall(script.read_text(encoding="utf-8")):
            source = (script.parent / path).resolve()
            exported = set(EXPORT.findall(source.read_text(encoding="utf-8")))
            wanted = {name.split(" as ")[0].strip() for name in names.split(",") if name.strip()}
            missing += [f"{script.name}: {name} of {source.name}" for name in sorted(wanted - exported)]
    assert missing == []
