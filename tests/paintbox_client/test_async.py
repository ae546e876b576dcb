"""The asynchronous client, against a real service."""

import asyncio
import json

import httpx2
import pytest

from paintbox_client import ApiError, AsyncClient, Client
from tests.builders import digit_pngs
from tests.paintbox_client.conftest import Served

LABELS = ["digit zero", "digit one", "taco"]


def test_many_calls_at_once_return_what_the_client_returns(served: Served) -> None:
    images = digit_pngs(0)[:6]

    async def ask() -> list[object]:
        async with AsyncClient(served.url) as client:
            answers = await asyncio.gather(*(client.classify(each, LABELS) for each in images))
            versions = await client.versions()
            assert client.url == served.url
            return [*(answer.results[0].predictions[0] for answer in answers), versions]

    expected = [served.client.classify(each, LABELS).results[0].predictions[0] for each in images]
    *found, versions = asyncio.run(ask())
    for one, other in zip(found, expected, strict=True):
        assert (one["label"], one["score"]) == (other.label, pytest.approx(other.score, abs=1e-4))  # type: ignore[index]
    assert versions == served.client.versions()


def test_errors_and_unknown_methods_are_raised(served: Served) -> None:
    async def ask() -> None:
        async with AsyncClient(served.url) as client:
            with pytest.raises(ApiError) as refused:
                await client.version(999_999)
            assert refused.value.status == 404
            with pytest.raises(AttributeError):
                client.paint  # type: ignore[attr-defined]  # noqa: B018

    asyncio.run(ask())


def test_an_iterator_of_the_client_is_an_asynchronous_one(served: Served) -> None:
    async def ask() -> list[object]:
        async with AsyncClient(served.url) as client:
            return [each async for each in client.verify_all()]

    assert asyncio.run(ask()) == list(served.client.verify_all())


def test_other_tasks_run_while_a_call_waits() -> None:
    ticks: list[int] = []

    async def ask() -> None:
        released = asyncio.Event()
        loop = asyncio.get_running_loop()

        def answer(request: httpx2.Request) -> httpx2.Response:
            asyncio.run_coroutine_threadsafe(released.wait(), loop).result(10)
            return httpx2.Response(200, content=json.dumps({"items": []}))

        async with AsyncClient("http://127.0.0.1:1", transport=httpx2.MockTransport(answer)) as client:
            call = asyncio.create_task(client.bases())
            for tick in range(3):
                await asyncio.sleep(0)
                ticks.append(tick)
            released.set()
            assert await call == []

    asyncio.run(ask())
    assert ticks == [0, 1, 2]


def test_it_has_every_method_of_the_client() -> None:
    client = AsyncClient("http://127.0.0.1:1")
    names = [name for name, value in vars(Client).items() if callable(value) and not name.startswith("_")]
    assert all(callable(getattr(client, name)) for name in names)
    asyncio.run(client.close())
