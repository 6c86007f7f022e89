"""Runs the studio: one process, one port."""

import logging
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from ranker.errors import UsageError
from studio.app import create_app
from studio.hub import Hub
from studio.settings import Settings

logger = logging.getLogger(__name__)

GRACE_S = 2


class _Server(uvicorn.Server):
    """Says when it is ready, and ends the live views when it is told to end (they would hold it up)."""

    def __init__(self, config: uvicorn.Config, hub: Hub, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._hub = hub
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._hub.close()
        super().handle_exit(sig, frame)


def serve(settings: Settings, *, on_ready: Callable[[str], None], with_pages: bool = True) -> None:
    """Run the studio until it is told to end (Ctrl-C, SIGTERM).

    Args:
        settings: port 0 takes any free port.
        on_ready: called once with the address, when requests are answered.
        with_pages: False serves the HTTP routes only.

    Raises:
        UsageError: if the port is taken, or the settings do not fit together.
        StoreError: if the database cannot be opened.
    """
    listener = _listen(settings.host, settings.port)
    with listener:
        app = create_app(settings, with_pages=with_pages)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        url = f"{'http' if settings.tls_cert is None else 'https'}://{host}:{listener.getsockname()[1]}/"
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
            h11_max_incomplete_event_size=64 * 1024,
        )
        _Server(config, app.state.context.hub, lambda: on_ready(url)).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(256)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"serve: port: {port}: {error.strerror or error}: choose another with --port (0 = any free one)"
        ) from error
    return listener
