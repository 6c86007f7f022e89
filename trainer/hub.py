"""Copy a model from the Hugging Face hub: `python -m trainer.hub REPOSITORY DIRECTORY`.

A program of its own, because the studio itself runs with the hub switched off (`HF_HUB_OFFLINE=1`, read once at import):
only this child, started for a repository that a person named, may use the network. Weights that are not safetensors are
never fetched. What a broken download has is kept and continued.
"""

import logging
import os
import subprocess
import sys
from pathlib import Path

from ranker.datasets.hubrows import network_errors
from ranker.errors import CheckpointError
from trainer.modelfiles import Report

log = logging.getLogger(__name__)

WANTED = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt", "README.md", "LICENSE*")
UNREACHABLE = "the hub cannot be reached: connect to the network, or add a local directory"
SOURCE_ROOT = Path(__file__).resolve().parent.parent


def download_repository(repository: str, directory: Path, report: Report) -> None:
    """Bring the files of `repository` that a model needs into `directory`.

    Raises:
        CheckpointError: if the hub cannot be reached, knows no such model, or does not let us have it.
    """
    report(f"downloading {repository}", None)
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
    child = subprocess.run(  # noqa: S603  (an argument list; no shell)
        [sys.executable, "-m", "trainer.hub", repository, str(directory)],
        cwd=SOURCE_ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if child.returncode != 0:
        lines = child.stdout.strip().splitlines()
        reason = lines[-1] if lines else f"stopped with code {child.returncode}"
        raise CheckpointError(f"{repository}: {reason}")


def main(arguments: list[str]) -> int:
    """Called with the repository and the directory. Returns 0, or 1 with one line of reason on standard output."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    repository, directory = arguments
    unreachable: tuple[type[Exception], ...] = network_errors()
    try:
        snapshot_download(repository, local_dir=directory, allow_patterns=list(WANTED))
    except GatedRepoError:
        log.info("the hub asks for a login: accept its terms there, set HF_TOKEN, then add it again")
    except RepositoryNotFoundError:
        log.info("the hub has no such model, or it is private: check the spelling, or set HF_TOKEN")
    except LocalEntryNotFoundError:
        log.info(UNREACHABLE)
    except (HfHubHTTPError, OSError) as error:
        log.info("%s: add it again: it goes on from here", str(error).splitlines()[0])
    except unreachable:
        log.info(UNREACHABLE)
    else:
        return 0
    return 1


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    log.addHandler(logging.StreamHandler(sys.stdout))
    log.setLevel(logging.INFO)
    log.propagate = False
    sys.exit(main(sys.argv[1:]))
