"""The Python client for asyncio. The stub beside this file, which `make docs` writes, has its methods and types."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from typing import Any, Self

from paintbox_client.client import Client

_END = object()


class AsyncClient:
    """`Client` for asyncio: each of its methods is a coroutine here, and each iterator an asynchronous one.

    Requests run in threads, so that retries, uploads and error messages are those of `Client`. Cancelling an awaited
    call returns at once; a request that was sent is still carried out. Callbacks are called in those threads.

    Args:
        *arguments: As for `Client`.
        max_threads: How many calls run at the same time; others wait.
        **options: As for `Client`.
    """

    def __init__(self, *arguments: Any, max_threads: int = 16, **options: Any) -> None:
        self._client = Client(*arguments, **options)
        self._threads = ThreadPoolExecutor(max_threads, "paintbox-async-client")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def url(self) -> str:
        """The service's address."""
        return self._client.url

    async def close(self) -> None:
        """Close the connections, once the calls in progress are over."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        self._client.close()

    def __getattr__(self, name: str) -> Any:
        """Return the method of `Client` of this name, as a coroutine function or an asynchronous iterator."""
        if name.startswith("_"):
            raise AttributeError(name)
        method = getattr(self._client, name)
        returns = str(inspect.signature(method).return_annotation)

        @wraps(method)
        async def call(*arguments: Any, **options: Any) -> Any:
            return await self._run(partial(method, *arguments, **options))

        @wraps(method)
        def iterate(*arguments: Any, **options: Any) -> Any:
            return self._iterate(partial(method, *arguments, **options))

        return iterate if returns.startswith("Iterator[") else call

    async def _run(self, call: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def _iterate(self, call: Callable[[], Iterator[Any]]) -> AsyncIterator[Any]:
        items = await self._run(call)
        while (item := await self._run(partial(next, items, _END))) is not _END:
            yield item
