"""The models in memory: loaded when first wanted, shared by all rankings, at most a few kept."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ranker.backends.base import Backend
from trainer.registry import Registry

logger = logging.getLogger(__name__)

MAX_MODELS = 2


class LoadedModels:
    """Loaded backends by name. Belongs to one event loop."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._loading: dict[str, asyncio.Task[Backend]] = {}  # in order of last use
        self._num_users: dict[str, int] = {}

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[Backend]:
        """The backend of `name`, which stays loaded while it is in use.

        Raises:
            BackendError, CheckpointError, UsageError: as `Registry.load` does.
        """
        loading = self._loading.pop(name, None)
        if loading is None:
            loading = asyncio.create_task(asyncio.to_thread(self._registry.load, name))
        self._loading[name] = loading
        self._num_users[name] = self._num_users.get(name, 0) + 1
        try:
            # Shielded: somebody who stops waiting must not take the model away from the others.
            yield await asyncio.shield(loading)
        finally:
            self._num_users[name] -= 1
            if loading.done() and (loading.cancelled() or loading.exception() is not None):
                self._forget(name, loading)
            await self._evict()

    async def aclose(self) -> None:
        """Free all models."""
        for name in list(self._loading):
            await self._unload(name)

    def names(self) -> list[str]:
        """Models in memory, the one last used at the end."""
        return [name for name, loading in self._loading.items() if loading.done()]

    async def _evict(self) -> None:
        for name in list(self._loading):
            if len(self._loading) <= MAX_MODELS:
                return
            if self._num_users[name] == 0 and self._loading[name].done():
                await self._unload(name)

    async def _unload(self, name: str) -> None:
        loading = self._loading.pop(name)
        if not loading.done():
            loading.cancel()
        elif loading.exception() is None:
            await loading.result().aclose()
            logger.info("unloaded %s", name)

    def _forget(self, name: str, loading: asyncio.Task[Backend]) -> None:
        if self._loading.get(name) is loading:
            del self._loading[name]
