"""How long the client retries while the service is unreachable, and how it waits."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from paintbox_client.errors import ApiError, ServiceUnreachableError

WAIT_SECONDS = 1800.0
"""How long to retry jobs and uploads in progress."""

CALL_SECONDS = 30.0
"""How long to retry any other request that may be repeated."""

_FIRST_WAIT_SECONDS = 60.0  # before a service has answered at all, its address may simply be wrong
_FIRST_CALL_SECONDS = 30.0
_REFUSED_SECONDS = 1.3  # nothing listens there, and no service is registered
_PAUSES_SECONDS = (0.1, 0.3, 0.9, 2.0, 4.0, 8.0)
_LONGEST_PAUSE_SECONDS = 10.0
_LONGEST_RETRY_AFTER_SECONDS = 60.0
_WORTH_TELLING_SECONDS = 5.0

_PASSING = frozenset({408, 425, 429, 502, 503, 504, 520, 521, 522, 523, 524, 529, 530})
"""Temporary statuses, including those of proxies."""

NOT_OURS = "unexpected_answer"
"""Code of a response that is not a problem document, such as that of a proxy."""

_LASTING = frozenset({501, 505, 507, 511})
_LASTING_CODES = frozenset({"job_quota", "too_many_uploads", "storage_full", "model_not_loaded", "deadline_exceeded"})
"""Errors that waiting does not resolve, whatever their status."""

_PASSING_CODES = frozenset({"upload_busy", "offset_mismatch"})  # a part that was lost is still being read, or was not


@dataclass(frozen=True)
class Patience:
    """How long to retry, and whom to notify.

    Attributes:
        wait_seconds: For jobs and uploads in progress, and downloads.
        call_seconds: For any other request.
        notify: Called once in each outage.
        sleep: Waits.
    """

    wait_seconds: float = WAIT_SECONDS
    call_seconds: float = CALL_SECONDS
    notify: Callable[[str], object] = lambda text: None
    sleep: Callable[[float], object] = time.sleep


class Outage:
    """Decides after each failure of an operation whether to retry it, and waits until then.

    Args:
        patience: How long to retry.
        is_wait: Whether work continues at the service meanwhile; else this is one request.
        may_repeat: Whether the request may be carried out twice. If not, it is retried only if it cannot have been
            carried out.
        is_known: Whether there is a service: it has responded before, or reports that it runs.
        before_retry: Called before each retry.
        limit_seconds: Shorter limit than that of `patience`; None: no such limit.
    """

    def __init__(
        self,
        patience: Patience,
        *,
        is_wait: bool,
        may_repeat: bool,
        is_known: Callable[[], bool],
        before_retry: Callable[[], object],
        limit_seconds: float | None = None,
    ) -> None:
        self._patience = patience
        self._is_wait = is_wait
        self._may_repeat = may_repeat
        self._is_known = is_known
        self._before_retry = before_retry
        self._limit_seconds = limit_seconds
        self._began: float | None = None if is_wait else time.monotonic()
        self._num_tries = 0

    def is_over(self) -> None:
        """Forget the failures: the service has answered."""
        self._num_tries = 0
        self._began = None

    def wait(self, error: ApiError | ServiceUnreachableError) -> None:
        """Wait until the next try, or raise the error if it is not to be retried, or no longer."""
        if not self._passes(error):
            if isinstance(error, ServiceUnreachableError) and not self._may_repeat:
                error.next = "The request may have been executed: check before you repeat it."
            raise error
        self._num_tries += 1
        now = time.monotonic()
        began = self._began = now if self._began is None else self._began
        seconds, pause = self._seconds(error), self._pause(error)
        if now + pause > began + seconds:
            raise error.after(self._num_tries, now - began)
        if self._num_tries == 1 and seconds > _WORTH_TELLING_SECONDS:
            self._patience.notify(_describe(error))
        self._patience.sleep(pause)
        self._before_retry()

    def _passes(self, error: ApiError | ServiceUnreachableError) -> bool:
        if isinstance(error, ServiceUnreachableError):
            return self._may_repeat or not error.was_sent
        if error.status in _LASTING or error.code in _LASTING_CODES:
            return False
        if not self._may_repeat:
            return error.status == 429
        is_somebody_elses = error.code == NOT_OURS and self._is_known()
        is_passing = error.status in _PASSING or error.code in _PASSING_CODES
        return is_passing or (self._is_wait and (error.status >= 500 or is_somebody_elses))

    def _seconds(self, error: ApiError | ServiceUnreachableError) -> float:
        """Return how long this outage may last."""
        seconds = self._patience.wait_seconds if self._is_wait else self._patience.call_seconds
        if self._limit_seconds is not None:
            seconds = min(seconds, self._limit_seconds)
        if self._is_known():
            return seconds
        is_refused = isinstance(error, ServiceUnreachableError) and not error.was_sent
        first = _FIRST_WAIT_SECONDS if self._is_wait else _REFUSED_SECONDS if is_refused else _FIRST_CALL_SECONDS
        return min(seconds, first)

    def _pause(self, error: ApiError | ServiceUnreachableError) -> float:
        back_off = (*_PAUSES_SECONDS, _LONGEST_PAUSE_SECONDS)[min(self._num_tries - 1, len(_PAUSES_SECONDS))]
        back_off *= random.uniform(0.8, 1.0)  # so that many clients do not come back at the same moment
        asked = error.retry_after_seconds if isinstance(error, ApiError) else None
        return max(back_off, min(asked or 0.0, _LONGEST_RETRY_AFTER_SECONDS))


def parse_retry_after(value: str | None) -> float | None:
    """Return the seconds that a header `Retry-After` names, as a number or as a date; None if it names none."""
    if value is None:
        return None
    if value.strip().isdecimal() and len(value) < 10:
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _describe(error: ApiError | ServiceUnreachableError) -> str:
    what = "Connection lost" if isinstance(error, ServiceUnreachableError) else "The service is unavailable"
    return f"{what}, retrying. {error.detail}"
