"""Verification of everything that is stored: the database, every blob, every version, the caches.

Findings are sent one by one, so that a client sees the progress and a connection through a proxy stays open.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, TypeVar

import structlog
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from app.http.dependencies import SettingsDep, built
from app.http.errors import CompositionInProgressError, VerificationInProgressError
from app.system.schemas import Finding
from app.versions.upkeep_schemas import Verification
from app.versions.verification import VerifierDep
from paint_core.evaluation.feature_cache import find_damaged_files
from registry.errors import BlobCorruptError, BlobMissingError, BlobStoreUnreachableError, NotFoundError
from registry.integrity import check_database, find_named_blobs
from registry.versions import Versions

_REST_PER_SECOND = 4.0  # of work, while requests need the cores
_MOST_REST_SECONDS = 10.0
_REST_LOOK_SECONDS = 0.02
_SEND_SECONDS = 60.0
_TURN_SECONDS, _TURN_LOOK_SECONDS = 60.0, 0.5
_log = structlog.get_logger(__name__)
_running = threading.Lock()
_Found = TypeVar("_Found")


class LinesResponse(StreamingResponse):
    """JSON values, one a line."""

    media_type = "application/x-ndjson"


class VerificationResponse(LinesResponse):
    """Findings, one JSON object per line; only one such response is sent at a time."""

    def __init__(self, audit: Audit) -> None:
        lines = (finding.model_dump_json().encode() + b"\n" for finding in audit.run())
        super().__init__(lines)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the findings, unless a verification is running; a client that does not read is not waited for."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(_SEND_SECONDS):
                await send(message)

        if not _running.acquire(blocking=False):
            raise VerificationInProgressError()
        try:
            await super().__call__(scope, receive, send_in_time)
        finally:
            _running.release()


@dataclass(frozen=True)
class Audit:
    """Verifies everything that is stored, including the cached features in a folder."""

    verifier: VerifierDep
    settings: SettingsDep

    def run(self) -> Iterator[Finding]:
        """Yield findings on database, blobs, versions and feature cache, in this order; the last one is a summary."""
        counts: Counter[bool | None] = Counter()
        for finding in self._look():
            counts[finding.ok] += 1
            if finding.ok is False:
                _log.error("damage found", what=finding.what, name=finding.name, detail=finding.detail)
            yield finding
        detail = f"{counts.total()} checked, {counts[False]} damaged, {counts[None]} could not be checked"
        yield Finding(what="summary", name="all", ok=not counts[False], detail=detail)

    def _look(self) -> Iterator[Finding]:
        for name, problem in check_database(self.verifier.database):
            yield Finding(what="database", name=name, ok=problem is None, detail=problem or "can be read")
        for sha256, user in self._named_blobs().items():
            found = self._unhurried(partial(self._look_at_blob, sha256, user))
            if found is not None:
                yield found
        with self.verifier.database.read() as session:
            version_ids = Versions(session).all_ids()
        for version_id in version_ids:
            with suppress(NotFoundError):  # purged meanwhile
                yield self._unhurried(partial(self._look_at_version, version_id))
        for path in find_damaged_files(self.settings.feature_cache_dir):
            detail = "damaged; the features are recomputed when needed, and the file can be removed"
            yield Finding(what="feature_cache", name=path.name, ok=False, detail=detail)

    def _look_at_blob(self, sha256: str, user: str) -> Finding | None:
        ok: bool | None = True
        detail = user
        try:
            self.verifier.blobs.fetch(sha256)
        except BlobCorruptError as error:
            ok, detail = False, f"{user}: its hash is {error.actual}"
        except BlobMissingError:
            if sha256 not in self._named_blobs():  # it has been freed meanwhile
                return None
            ok, detail = False, f"{user}: it is missing"
        except BlobStoreUnreachableError as error:
            ok, detail = None, error.detail
        return Finding(what="blob", name=sha256, ok=ok, detail=detail)

    def _named_blobs(self) -> Mapping[str, str]:
        with self.verifier.database.read() as session:
            return find_named_blobs(session)

    def _look_at_version(self, version_id: int) -> Finding:
        try:
            verified = self._verify_in_turn(version_id)
        except CompositionInProgressError:
            return _finding(version_id, None, "not checked: other versions were being mixed")
        except BlobStoreUnreachableError as error:
            return _finding(version_id, None, error.detail)
        wrong = [f"{check.what} {check.name}: {check.detail}" for check in verified.checks if check.matches is False]
        if wrong:
            return _finding(version_id, False, "; ".join(wrong)[:2000])
        if not verified.matches:
            unknown = [f"{check.what}: {check.detail}" for check in verified.checks if check.matches is None]
            return _finding(version_id, None, "; ".join(unknown)[:2000])
        return _finding(version_id, True, "mixed again: weights and probe are unchanged")

    def _verify_in_turn(self, version_id: int) -> Verification:
        """Verify once no other version is being mixed: users of the service go first."""
        deadline = time.monotonic() + _TURN_SECONDS
        while True:
            try:
                return self.verifier.verify(version_id)
            except CompositionInProgressError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_TURN_LOOK_SECONDS)

    def _unhurried(self, look: Callable[[], _Found]) -> _Found:
        """Return the result of a check, then pause for longer than it took while requests need the cores."""
        started = time.monotonic()
        found = look()
        until = time.monotonic() + min(_REST_PER_SECOND * (time.monotonic() - started), _MOST_REST_SECONDS)
        while self.verifier.engine.is_busy and time.monotonic() < until:
            time.sleep(_REST_LOOK_SECONDS)
        return found


def _finding(version_id: int, ok: bool | None, detail: str) -> Finding:
    return Finding(what="version", name=str(version_id), ok=ok, detail=detail)


AuditDep = Annotated[Audit, built(Audit)]
