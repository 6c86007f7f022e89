"""The tiny model that engines are tested with."""

from pathlib import Path

import pytest
from tinymodel import make_tiny_model


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tiny")
    make_tiny_model(directory)
    return directory
