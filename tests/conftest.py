"""What all tests have in common: no network, no touching of the user's own data, and the default model where it is set up."""

import os
from pathlib import Path

import pytest

from studio.cli.offline import go_offline
from studio.settings import default_data_dir

go_offline(os.environ)
_MODELS_DIR = Path(os.environ.get("STUDIO_TEST_MODELS") or default_data_dir() / "models")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests go last: Playwright keeps an event loop running in this thread, in which `asyncio.run` is refused."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


@pytest.fixture(scope="session", autouse=True)
def _private_data_dir(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A command that is not told where to keep its things keeps them where nobody misses them."""
    os.environ["STUDIO_DATA_DIR"] = str(tmp_path_factory.mktemp("data-dir"))


@pytest.fixture(scope="session")
def default_models_dir() -> Path:
    """A models directory that has the default model (`launch.py test` sets it up). Do not write into it."""
    from trainer.registry import BASE_MODEL, Registry

    if not Registry(_MODELS_DIR).has(BASE_MODEL):
        reason = f"{BASE_MODEL} is not in {_MODELS_DIR}: `python launch.py test` fetches it"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return _MODELS_DIR
