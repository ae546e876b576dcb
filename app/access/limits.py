"""Rate limits of keys, counted in Valkey so that all API processes share them.

While Valkey is unavailable, each process counts for itself: a broken broker must not stop classification.
"""

from __future__ import annotations

import math
import time

import structlog
from limits import RateLimitItem, parse_many
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.concurrency import run_in_threadpool

from app.http.errors import RateLimitedError

_TIMEOUT_SECONDS = 0.25
_AWAY_SECONDS = 10.0
"""Pause after a failure of Valkey, so that not every request waits for it."""

_KEY_PREFIX = "paintbox.limits"
_log = structlog.get_logger(__name__)


class RateLimits:
    """Counts requests by key.

    Args:
        limits: Such as `600/minute`, several separated by `;`; empty: unlimited.
        broker_url: Valkey or Redis that holds the counts; None: this process counts by itself.
    """

    def __init__(self, limits: str, broker_url: str | None) -> None:
        self._items = parse_many(limits) if limits else []
        self._away_until = 0.0
        self._shared: SlidingWindowCounterRateLimiter | None = None
        if not self._items:
            return
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        if broker_url is not None:
            storage = RedisStorage(
                broker_url,
                key_prefix=_KEY_PREFIX,
                wrap_exceptions=True,
                socket_timeout=_TIMEOUT_SECONDS,
                socket_connect_timeout=_TIMEOUT_SECONDS,
            )
            self._shared = SlidingWindowCounterRateLimiter(storage)

    async def count(self, key_id: str) -> None:
        """Count a request of a key, by its public id."""
        if not self._items:
            return
        if self._shared is not None and time.monotonic() >= self._away_until:
            try:
                return await run_in_threadpool(self._count, self._shared, key_id)
            except StorageError as error:
                self._away_until = time.monotonic() + _AWAY_SECONDS
                _log.warning("requests are counted by this process only", error=type(error.storage_error).__name__)
        self._count(self._own, key_id)

    def _count(self, limiter: SlidingWindowCounterRateLimiter, key_id: str) -> None:
        for item in self._items:
            if not limiter.hit(item, key_id):
                raise RateLimitedError(_describe(item), _seconds_until_free(limiter, item, key_id))


def _describe(item: RateLimitItem) -> str:
    return f"{item.amount} requests in {item.get_expiry()} s"


def _seconds_until_free(limiter: SlidingWindowCounterRateLimiter, item: RateLimitItem, key_id: str) -> int:
    reset = limiter.get_window_stats(item, key_id).reset_time
    return max(1, math.ceil(min(reset - time.time(), item.get_expiry())))
