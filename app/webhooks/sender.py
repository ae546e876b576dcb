"""Sends what is due, from whichever API process claims it first.

A message is a row since its job ended, in the same transaction. Whoever claims it moves its time on, past any try's
length, and so no other process tries meanwhile; one that dies in between leaves it due again. So a message may arrive
twice, with the same `webhook-id`, and is never forgotten.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

import httpx2
import structlog

from app.webhooks.signing import sign
from app.webhooks.targets import check_target
from registry.database import Database
from registry.deliveries import Deliveries, Delivery
from registry.errors import RequestRefusedError

_TIMEOUT = httpx2.Timeout(10.0, connect=5.0)
_AT_ONCE = 8
_CLAIM_SECONDS = 60.0  # longer than a try takes
_GONE = 410
_log = structlog.get_logger(__name__)


class WebhookSender:
    """Delivers messages about finished jobs.

    Args:
        database: Holds the messages.
        key: Signs them.
        allowed: Hosts that they may be sent to; looked at again before each try.
        clock: Seconds since 1970; tests pass their own.
    """

    def __init__(
        self, database: Database, key: bytes, allowed: Collection[str], clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._key = key
        self._allowed = tuple(allowed)
        self._clock = clock
        self._http = httpx2.Client(timeout=_TIMEOUT, follow_redirects=False, trust_env=False)
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="paintbox-webhook")

    def deliver_due(self) -> int:
        """Try every message that is due and return how many there were."""
        num_tried = 0
        while claimed := self._claim():
            list(self._pool.map(self._deliver, claimed))
            num_tried += len(claimed)
        return num_tried

    def close(self) -> None:
        """Close the connections."""
        self._pool.shutdown()
        self._http.close()

    def _claim(self) -> list[Delivery]:
        with self._database.write() as session:
            return Deliveries(session).claim(_AT_ONCE, _CLAIM_SECONDS)

    def _deliver(self, delivery: Delivery) -> None:
        try:
            check_target(delivery.url, self._allowed)
        except RequestRefusedError as error:
            return self._note(delivery, str(error), try_again=False)
        try:
            status = self._post(delivery)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            return self._note(delivery, f"no answer: {type(error).__name__}")
        if 200 <= status < 300:
            return self._note(delivery, None)
        hint = ", and redirects are not followed" if 300 <= status < 400 else ""
        self._note(delivery, f"answered {status}{hint}", try_again=status != _GONE)

    def _post(self, delivery: Delivery) -> int:
        """Return the answer's status; its body is not read."""
        body = json.dumps(delivery.payload, separators=(",", ":"), ensure_ascii=False).encode()
        headers = sign(self._key, delivery.id, int(self._clock()), body) | {"content-type": "application/json"}
        with self._http.stream("POST", delivery.url, content=body, headers=headers) as response:
            return int(response.status_code)

    def _note(self, delivery: Delivery, error: str | None, *, try_again: bool = True) -> None:
        """Write down what came of a try; a URL is not logged, since it may hold a secret."""
        if error is None:
            _log.info("webhook delivered", job_id=delivery.job_id, webhook=delivery.id)
        else:
            _log.warning("webhook not delivered", job_id=delivery.job_id, webhook=delivery.id, error=error)
        with self._database.write() as session:
            Deliveries(session).note(delivery, error, try_again=try_again)
