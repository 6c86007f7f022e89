"""A backend that passes every call on to another one: the base of those that change one thing about it. Ours."""

from collections.abc import AsyncIterator, Sequence

from ranker.backends.base import Backend, Chunk, GenerateRequest, ScoreRequest, Scores


class PassingBackend:
    """Another backend as it is."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def name(self) -> str:
        return self._backend.name

    @property
    def context_tokens(self) -> int:
        return self._backend.context_tokens

    def chat_text(self, system: str, user: str) -> str:
        return self._backend.chat_text(system, user)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._backend.count_tokens(texts)

    def generate(self, request: GenerateRequest) -> AsyncIterator[Chunk]:
        return self._backend.generate(request)

    async def score(self, request: ScoreRequest) -> Scores:
        return await self._backend.score(request)

    async def aclose(self) -> None:
        await self._backend.aclose()
