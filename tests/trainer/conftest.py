"""Where whole jobs are trained."""

from pathlib import Path

import pytest
from wholejobs import Studio


@pytest.fixture
def studio(tmp_path: Path, toy_model_dir: Path) -> Studio:
    return Studio(tmp_path, toy_model_dir)
