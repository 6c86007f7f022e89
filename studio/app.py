"""The studio as one ASGI application: guard, routes, files of the pages, and the Gradio pages at "/"."""

import contextlib
import logging
import os
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from filelock import FileLock, Timeout
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from ranker.errors import UsageError
from studio.accounts import Accounts
from studio.api import add_api
from studio.context import Context
from studio.corrections import Corrections
from studio.evaluationroutes import add_evaluation_routes
from studio.evaluationruns import Evaluations
from studio.gate import Gate
from studio.hub import Hub
from studio.library import Library
from studio.mcp import add_mcp
from studio.peopleroutes import add_people_routes
from studio.ranking import Rankings
from studio.security import Guard, refuse_exposure
from studio.settings import Settings
from studio.store import Store
from studio.training import Training
from trainer.registry import Registry

__all__ = ["Context", "create_app", "open_context"]

logger = logging.getLogger(__name__)

ASSETS_URL = "/studio-assets"
VENDOR_URL = "/vendor"
ASSET_SUFFIXES = frozenset({".css", ".js", ".svg", ".woff2"})
MAX_EVENT_THREADS = 40
MAX_QUEUED_EVENTS = 400


class AssetFiles(StaticFiles):
    """The files that pages load: style sheet, client script, icon. Nothing else in the folder is served."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        if Path(path).suffix not in ASSET_SUFFIXES:
            raise HTTPException(404)
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "no-cache"  # asked for each time, sent only when changed
        return response


def open_context(settings: Settings) -> Context:
    """Open the services on the data directory; `Context.close` closes them.

    Raises:
        StoreError: if the database cannot be opened.
        UsageError: if the data directory cannot be written, or another studio uses it.
    """
    settings.make_directories()
    lock = FileLock(settings.data_dir / "studio.lock", thread_local=False)  # opened and closed by different threads
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UsageError(
            f"serve: data-dir: {settings.data_dir}: another studio is using it: close that one, or choose another"
        ) from error
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(lock.release)
        store = Store(settings.database_path)
        on_failure.callback(store.close)
        library = Library(store, samples_dir=settings.assets_dir / "samples")
        library.seed_samples()
        registry, hub = Registry(settings.models_dir), Hub()
        rankings = Rankings(store, registry, hub, default_model=settings.model)
        on_failure.pop_all()
    return Context(
        settings=settings,
        store=store,
        library=library,
        registry=registry,
        hub=hub,
        rankings=rankings,
        corrections=Corrections(store),
        accounts=Accounts(store, settings.data_dir),
        training=Training(store, registry, settings.jobs_dir, settings.models_dir),
        evaluations=Evaluations(settings.evaluations_dir, data_dir=settings.data_dir, example=settings.example_results),
        lock=lock,
    )


def create_app(settings: Settings, *, with_pages: bool = True) -> FastAPI:
    """The whole studio. Its services are at `app.state.context` and are closed when the server ends.

    Args:
        settings: where things are and how it listens.
        with_pages: False leaves the Gradio pages out (they take seconds to load; the routes do not need them).

    Raises:
        UsageError: if a login is needed and there is no admin, or the data directory cannot be used.
        StoreError: if the database cannot be opened.
    """
    context = open_context(settings)
    try:
        refuse_exposure(settings, has_admin=context.store.accounts.has_admin())
    except UsageError:
        context.close()
        raise

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            context.close()

    app = FastAPI(title="Ranking Studio", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.context = context
    add_people_routes(app, context)
    add_api(app, context)
    add_evaluation_routes(app, context)
    add_mcp(app, context)
    app.mount(ASSETS_URL, AssetFiles(directory=settings.assets_dir), name="assets")
    if with_pages:
        app = _mount_pages(app, context)
    app.add_middleware(Gate, accounts=context.accounts, needs_accounts=settings.needs_accounts)
    app.add_middleware(Guard, settings=settings)
    return app


def _mount_pages(app: FastAPI, context: Context) -> FastAPI:
    """Gradio's pages at "/"; imported here, because that takes seconds and the services do not need it."""
    settings = context.settings
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(settings.data_dir / "uploads")
    import gradio as gr
    import plotly

    from studio.pages import build_pages
    from studio.theme import HEAD, make_theme

    app.mount(VENDOR_URL, StaticFiles(directory=Path(plotly.__file__).parent / "package_data"), name="vendor")
    pages: Any = build_pages(context)
    pages.max_threads = MAX_EVENT_THREADS
    pages.queue(max_size=MAX_QUEUED_EVENTS, default_concurrency_limit=MAX_EVENT_THREADS)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="SSR mode is not supported")  # said although it is off
        mounted: FastAPI = gr.mount_gradio_app(
            app,
            pages,
            path="/",
            theme=make_theme(),
            head=HEAD,
            max_file_size=settings.max_upload_bytes,
            show_error=False,
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            footer_links=[],
            allowed_paths=[],
            blocked_paths=[
                str(place)
                for place in (settings.database_path, settings.models_dir, settings.jobs_dir, settings.evaluations_dir)
            ],
        )
    return mounted
