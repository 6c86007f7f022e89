"""Where the studio keeps its things and how it listens. Knows no database and no page."""

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from ranker.errors import UsageError

VERSION = "0.1.0"
"""The same as in pyproject.toml (tested)."""

MIB = 1024 * 1024
ASSETS_DIR = Path(__file__).resolve().parent.parent / "assets"


def default_data_dir() -> Path:
    """`STUDIO_DATA_DIR` if it is set, else the platform's directory for user data."""
    chosen = os.environ.get("STUDIO_DATA_DIR")
    return Path(chosen).expanduser() if chosen else platformdirs.user_data_path("ranking-studio", appauthor=False)


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be chosen when the studio starts."""

    data_dir: Path = field(default_factory=default_data_dir)
    host: str = "127.0.0.1"
    port: int = 7860
    model: str | None = None
    """Name of the model that new rankings use. None = the registry's default."""
    open_browser: bool = True
    max_upload_bytes: int = 256 * MIB
    max_request_bytes: int = 8 * MIB
    """Largest body of any request that is not an upload."""
    accounts: bool = False
    """Ask for a login even where only this machine can listen in."""
    public_names: tuple[str, ...] = ()
    """Names by which others reach this host, beside its addresses."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    assets_dir: Path = ASSETS_DIR

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError("settings: tls: certificate and key go together: give --tls-cert and --tls-key")
        for path in (self.tls_cert, self.tls_key):
            if path is not None and not path.is_file():
                raise UsageError(f"settings: tls: {path}: is not there: name a PEM file")
        if not 0 <= self.port <= 65535:
            raise UsageError(f"settings: port: {self.port}: choose a number from 0 (any free port) to 65535")

    @property
    def is_exposed(self) -> bool:
        """Can other machines reach it?"""
        return not is_loopback(self.host)

    @property
    def needs_accounts(self) -> bool:
        """Is a name not enough?"""
        return self.is_exposed or self.accounts

    @property
    def database_path(self) -> Path:
        return self.data_dir / "studio.db"

    @property
    def models_dir(self) -> Path:
        return self.data_dir / "models"

    @property
    def jobs_dir(self) -> Path:
        return self.data_dir / "jobs"

    @property
    def exports_dir(self) -> Path:
        return self.data_dir / "exports"

    @property
    def evaluations_dir(self) -> Path:
        return self.data_dir / "evaluations"

    @property
    def example_results(self) -> Path:
        """Results that come with the studio."""
        return self.assets_dir / "results" / "evaluation.json"

    def make_directories(self) -> None:
        """Create the data directory, readable by its owner only.

        Raises:
            UsageError: if it cannot be created or written.
        """
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            for directory in (self.models_dir, self.jobs_dir, self.exports_dir, self.evaluations_dir):
                directory.mkdir(exist_ok=True)
        except OSError as error:
            reason = error.strerror or "cannot be written"
            raise UsageError(
                f"settings: data-dir: {self.data_dir}: {reason}: choose another with --data-dir"
            ) from error
