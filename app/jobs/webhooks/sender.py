"""Sends due webhook messages, from whichever API process claims them first.

A message is a row, created in the transaction that ends its job. A process claims it by moving its due time beyond the
length of a try, so that no other process tries meanwhile; if the process dies, the message becomes due again. So a
message may arrive twice, with the same `webhook-id`, but is never lost.

A try has one deadline in total. Tries run concurrently in slots, of which a receiver has few: a slow receiver delays
only its own messages.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

import httpx2
import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.jobs.webhooks.signing import sign
from app.jobs.webhooks.slots import Slots
from app.jobs.webhooks.targets import check_target
from app.runtime.periodic import PeriodicThread
from registry.database import Database
from registry.deliveries import Deliveries, Delivery
from registry.errors import RequestRefusedError

_TRY_SECONDS = 15.0
_CLAIM_SECONDS = 60.0  # longer than a try including its record
_LOOK_SECONDS = 1.0
_GONE = 410
_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


class WebhookSender:
    """Delivers messages about finished jobs.

    Args:
        database: Holds the messages.
        key: Signs them.
        allowed: Hosts that they may be sent to, checked before each try.
        count: Called with the result of each try: `delivered`, `failed` or `given_up`.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        key: bytes,
        allowed: Collection[str],
        count: Callable[[str], object] = lambda outcome: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._key = key
        self._allowed = tuple(allowed)
        self._count = count
        self._clock = clock
        self._slots = Slots()
        self._tls = httpx2.create_ssl_context(trust_env=False)
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="paintbox-webhook")  # for database calls
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._is_closed = False

    def deliver_due(self) -> int:
        """Try every due message until none is due or in progress, and return the number of tries."""
        claimed = self._claim()
        if not claimed or self._is_closed:
            return 0
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(self._deliver_all(claimed))
        finally:
            self._stopping = None
            loop.close()  # does not wait for a DNS lookup

    def close(self) -> None:
        """Abort the tries in progress, whose messages are due again at once, and send no more."""
        self._is_closed = True
        stopping, loop = self._stopping, self._loop
        if stopping is not None and loop is not None:
            loop.call_soon_threadsafe(stopping.set)
        self._pool.shutdown(wait=False)

    async def _deliver_all(self, claimed: list[Delivery]) -> int:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        stop = asyncio.create_task(self._stopping.wait())
        tries: dict[asyncio.Task[None], Delivery] = {}
        num_tried = 0
        async with httpx2.AsyncClient(verify=self._tls, timeout=_TRY_SECONDS, trust_env=False) as http:
            try:
                while not self._is_closed and (claimed or tries):
                    tries |= {asyncio.create_task(self._try(http, each)): each for each in claimed}
                    num_tried += len(claimed)
                    await asyncio.wait((stop, *tries), timeout=_LOOK_SECONDS, return_when="FIRST_COMPLETED")
                    for task in [each for each in tries if each.done()]:
                        self._finish(tries.pop(task), task.exception())
                    claimed = [] if self._is_closed else await self._in_pool(self._claim)
            finally:
                stop.cancel()
                await self._break_off(tries)
        return num_tried

    def _finish(self, delivery: Delivery, error: BaseException | None) -> None:
        self._slots.give_back(delivery.id)
        if error is not None:  # it is due again once its claim has expired
            _log.error("webhook try failed", webhook=delivery.id, exc_info=error)

    async def _break_off(self, tries: dict[asyncio.Task[None], Delivery]) -> None:
        for task in tries:
            task.cancel()
        await asyncio.gather(*tries, return_exceptions=True)
        for delivery in tries.values():
            self._slots.give_back(delivery.id)
        if tries:
            with suppress(SQLAlchemyError), self._database.write() as session:  # else they are due again later
                for delivery in tries.values():
                    Deliveries(session).give_back(delivery)

    def _claim(self) -> list[Delivery]:
        if self._slots.is_full:
            return []
        with self._database.read() as session:
            due = Deliveries(session).due(self._slots.full("url"), self._slots.full("host"))
            chosen = list(self._slots.take(due))
        if not chosen:
            return []
        with self._database.write() as session:
            claimed = Deliveries(session).claim(chosen, _CLAIM_SECONDS)
        for missed in set(chosen) - {each.id for each in claimed}:  # another process was faster
            self._slots.give_back(missed)
        return claimed

    async def _try(self, http: httpx2.AsyncClient, delivery: Delivery) -> None:
        try:
            check_target(delivery.url, self._allowed)
        except RequestRefusedError as error:
            return await self._note(delivery, str(error), try_again=False)
        try:
            async with asyncio.timeout(_TRY_SECONDS):
                status = await self._post(http, delivery)
        except TimeoutError:
            return await self._note(delivery, f"no response within {_TRY_SECONDS:g} s")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            return await self._note(delivery, f"no response: {type(error).__name__}")
        if 200 <= status < 300:
            return await self._note(delivery, None)
        hint = ", and redirects are not followed" if 300 <= status < 400 else ""
        await self._note(delivery, f"answered {status}{hint}", try_again=status != _GONE)

    async def _post(self, http: httpx2.AsyncClient, delivery: Delivery) -> int:
        """Return the status of the response, whose body is not read."""
        body = json.dumps(delivery.payload, separators=(",", ":"), ensure_ascii=False).encode()
        headers = sign(self._key, delivery.id, int(self._clock()), body) | {"content-type": "application/json"}
        async with http.stream("POST", delivery.url, content=body, headers=headers) as response:
            return int(response.status_code)

    async def _note(self, delivery: Delivery, error: str | None, *, try_again: bool = True) -> None:
        """Record the result of a try; the URL is not logged, because it may hold a secret."""
        if error is None:
            _log.info("webhook delivered", job_id=delivery.job_id, webhook=delivery.id)
        else:
            _log.warning("webhook not delivered", job_id=delivery.job_id, webhook=delivery.id, error=error)
        self._count("delivered" if error is None else "failed" if try_again else "refused")

        def write() -> None:
            with self._database.write() as session:
                Deliveries(session).note(delivery, error, try_again=try_again)

        try:
            await self._in_pool(write)
        except (SQLAlchemyError, RuntimeError) as reason:  # RuntimeError: the pool is shut down
            _log.warning("webhook attempt not recorded", webhook=delivery.id, error=type(reason).__name__)

    async def _in_pool(self, action: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, action)


class WebhookThread(PeriodicThread):
    """Sends due messages every `interval_seconds`, and aborts those in progress when it is told to stop."""

    def __init__(self, sender: WebhookSender, interval_seconds: float) -> None:
        super().__init__("paintbox-webhooks", interval_seconds, sender.deliver_due)
        self._sender = sender

    def stop(self, timeout_seconds: float = 2.0) -> None:
        """Send no more; what does not stop in time ends with the process."""
        self._sender.close()
        super().stop(timeout_seconds)
