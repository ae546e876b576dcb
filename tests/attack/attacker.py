"""What an attacker has, and what it saw."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2

REFUSALS_FROM = 400


@dataclass(frozen=True)
class Target:
    """The service, and what there is in it.

    Attributes:
        url: Its address.
        mallory: A token with the scopes `read`, `classify` and `write`.
        version: Somebody else's version.
        dataset: Somebody else's data set.
        job: Somebody else's job.
        seconds: How long to attack.
    """

    url: str
    mallory: str
    version: int
    dataset: str
    job: str
    seconds: float


@dataclass
class Seen:
    """What came back, to be counted.

    Attributes:
        statuses: Answers by status, `closed` for connections that ended without one.
        largest_refusal: Bytes of the largest answer of 400 and above.
        largest_answer: Bytes of the largest other one.
        crossed: Requests on somebody else's things that succeeded.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    largest_refusal: int = 0
    largest_answer: int = 0
    crossed: list[str] = field(default_factory=list)


Abuse = Callable[["Attacker"], Coroutine[Any, Any, None]]
ABUSES: dict[str, Abuse] = {}


def abuse(function: Abuse) -> Abuse:
    """Register an abuse under its name."""
    ABUSES[function.__name__] = function
    return function


class Attacker:
    """Sends requests and counts answers until its time is over.

    Args:
        target: The service.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.seen = Seen()
        self.until = time.monotonic() + target.seconds
        limits = httpx2.Limits(max_connections=500)
        headers = {"authorization": f"Bearer {target.mallory}"}
        self.http = httpx2.AsyncClient(base_url=target.url, timeout=120, limits=limits, headers=headers)

    async def send(self, method: str, path: str, **options: Any) -> httpx2.Response | None:
        """Send a request; return the answer, or None if there was none."""
        try:
            response = await self.http.request(method, path, **options)
        except httpx2.HTTPError as error:
            self.seen.statuses["closed" if not isinstance(error, httpx2.TimeoutException) else "timed out"] += 1
            return None
        self.note(response.status_code, len(response.content))
        return response

    async def send_json(self, path: str, body: Any, method: str = "POST") -> httpx2.Response | None:
        """Send a JSON body."""
        return await self.send(method, path, content=json.dumps(body), headers={"content-type": "application/json"})

    async def upload(self, name: str, data: bytes) -> httpx2.Response | None:
        """Send an archive."""
        return await self.send("POST", "/v1/datasets", data={"name": name}, files={"archive": (name, data)})

    async def repeat(self, *requests: Callable[[], Coroutine[Any, Any, Any]], times: int = 10_000) -> None:
        """Send each again and again, one after the other, all beside each other, until the time is over."""

        async def one(request: Callable[[], Coroutine[Any, Any, Any]]) -> None:
            for _ in range(times):
                if time.monotonic() >= self.until:
                    return
                await request()

        await asyncio.gather(*(one(request) for request in requests))

    async def connect(self, head: bytes = b"") -> asyncio.StreamWriter | None:
        """Open a connection of one's own and send something."""
        parts = urlsplit(self.target.url)
        try:
            _, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(head)
            await writer.drain()
        except OSError:
            self.seen.statuses["closed"] += 1
            return None
        return writer

    async def wait(self) -> None:
        """Do nothing until the time is over."""
        await asyncio.sleep(max(0.0, self.until - time.monotonic()))

    def note(self, status: int, num_bytes: int) -> None:
        """Count an answer."""
        self.seen.statuses[str(status)] += 1
        if status >= REFUSALS_FROM:
            self.seen.largest_refusal = max(self.seen.largest_refusal, num_bytes)
        else:
            self.seen.largest_answer = max(self.seen.largest_answer, num_bytes)


async def attack(name: str, target: Target) -> Seen:
    """Run one abuse; what is under way when its time is over is dropped."""
    attacker = Attacker(target)
    try:
        async with asyncio.timeout(target.seconds + 3):
            await ABUSES[name](attacker)
    except TimeoutError:
        attacker.seen.statuses["dropped"] += 1
    return attacker.seen
