"""`serve`: the studio itself."""

import argparse
import sys
import webbrowser
from pathlib import Path
from typing import Any

from studio.cli.options import add_data_dir, example, read_settings


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "serve",
        help="open the studio (the default command)",
        description="Open the studio in the browser. The first start fetches the default model.",
        epilog=example("serve --port 7861 --no-browser", "serve --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem"),
    )
    parser.add_argument(
        "--host",
        help="address to listen on (default: 127.0.0.1, this machine only); others need accounts, see `people`",
    )
    parser.add_argument("--port", type=int, help="port to listen on; 0 = any free one (default: 7860)")
    parser.add_argument(
        "--model", metavar="NAME", help="the model that new rankings use (default: the registry's default)"
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.add_argument(
        "--accounts", action="store_true", help="ask for a login on 127.0.0.1 too (behind a proxy, say)"
    )
    parser.add_argument(
        "--public-name",
        action="append",
        metavar="NAME",
        help="a name by which others reach the studio, as it stands in their address bar (may be given several times)",
    )
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate (PEM), so that nobody can listen in")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key (PEM)")
    add_data_dir(parser)
    parser.set_defaults(run=serve)


def serve(arguments: argparse.Namespace) -> int:
    """`serve`"""
    from studio.cli.models import ensure_model
    from trainer.registry import Registry

    settings = read_settings(arguments)
    ensure_model(Registry(settings.models_dir), settings.model)
    print("Starting the studio ...", file=sys.stderr, flush=True)

    from studio.server import serve as run_server

    def announce(url: str) -> None:
        print(f"Ranking Studio is open at {url} (Ctrl-C stops it)", flush=True)
        if settings.is_exposed and settings.tls_cert is None:
            print("Passwords travel in the clear: use --tls-cert and --tls-key, or a proxy with TLS.", file=sys.stderr)
        if settings.open_browser:
            webbrowser.open(url)

    run_server(settings, on_ready=announce)
    return 0
