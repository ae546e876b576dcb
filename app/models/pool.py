"""The versions in memory: those that serve under an alias, and a cache of others."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from app.http.dependencies import provided
from app.http.errors import ModelNotLoadedError, VersionNotLoadedError
from app.models.loader import VersionLoader
from app.models.served_model import ServedModel
from contract.versions import ACTIVE_ALIAS
from registry.aliases import Aliases
from registry.database import Database
from registry.errors import NotFoundError, RegistryError
from registry.versions import Versions

MODULE_BYTES = 1 << 20
"""The least that a version takes, for the modules of its tower, whatever tensors it shares with its base."""

CHECK_SECONDS = 60.0
"""How long the result of checking a version's parts is trusted."""

_MAX_ID = (1 << 31) - 1
_log = structlog.get_logger(__name__)


class VersionPool:
    """Owns the versions in memory and loads others, one at a time: each needs memory for an image tower.

    `active`, `canary` and `shadow` each serve one version; `AliasFollower` swaps them. A request takes a reference and
    keeps it, so a swap does not affect requests in progress. Versions that requests named by id, and those that were
    active before, are cached, least recently used out first. To go back to one takes milliseconds and cannot fail.

    Args:
        database: Knows which versions and aliases exist.
        loader: Builds versions.
        max_bytes: Memory for the image towers of cached versions; 0 caches none.
    """

    def __init__(self, database: Database, loader: VersionLoader, max_bytes: int) -> None:
        self._database = database
        self._loader = loader
        self._max_bytes = max_bytes
        self._serving: dict[str, ServedModel] = {}  # by alias; replaced, never changed, so reading takes no lock
        self._errors = {ACTIVE_ALIAS: "the process is starting."}
        self._cached: OrderedDict[int, ServedModel] = OrderedDict()
        self._loads: dict[int, Future[ServedModel]] = {}
        self._lock = threading.Lock()  # held for moments: the event loop takes it, too
        self._loading = threading.Lock()  # held for as long as a load lasts
        self._checking = threading.Lock()
        self._checked: dict[int, tuple[float, str | None]] = {}  # expiry, and the cause if it cannot be loaded
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="paintbox-version")

    @property
    def active(self) -> ServedModel | None:
        """The version that answers new requests, if any."""
        return self._serving.get(ACTIVE_ALIAS)

    def require_active(self) -> ServedModel:
        """Return the version that answers new requests; `ModelNotLoadedError` if there is none."""
        active = self._serving.get(ACTIVE_ALIAS)
        if active is None:
            raise ModelNotLoadedError(self._errors.get(ACTIVE_ALIAS, "the process is stopping."))
        return active

    def serving(self, alias: str) -> ServedModel | None:
        """Return the version that serves as `active`, `canary` or `shadow`, if any."""
        return self._serving.get(alias)

    def swap(self, alias: str, model: ServedModel | None) -> None:
        """Serve `model` to requests that start from now on. The previous `active` version is cached."""
        with self._lock:
            previous = self._serving.get(alias)
            others = {name: each for name, each in self._serving.items() if name != alias}
            self._serving = others if model is None else {**others, alias: model}
            self._errors.pop(alias, None)
        is_other = previous is not None and (model is None or previous.version_id != model.version_id)
        if alias == ACTIVE_ALIAS and previous is not None and is_other:
            self._cache(previous)

    def last_error(self, alias: str) -> str | None:
        """Return why the version of an alias could not be loaded."""
        return self._errors.get(alias)

    def set_last_error(self, alias: str, reason: str) -> None:
        """Set why the version of an alias could not be loaded."""
        self._errors[alias] = reason

    @property
    def cached_bytes(self) -> int:
        """The memory of cached versions."""
        with self._lock:
            return sum(map(_count_bytes, self._cached.values()))

    async def get(self, name: str | int) -> ServedModel:
        """Return the version with an id, as a number or in digits, or an alias, for one request; load it if needed.

        Raises `NotFoundError`, `ConflictError` if it is in the trash, `ModelNotLoadedError` if `active` could not be
        loaded, and `VersionNotLoadedError` if another one could not.
        """
        if name == ACTIVE_ALIAS:
            return self.require_active()
        if isinstance(name, str) and (serving := self._serving.get(name)) is not None:
            return serving
        try:
            version_id, wanted = await run_in_threadpool(self._find, name)
        except SQLAlchemyError:  # the database is unavailable: what is in memory existed a moment ago
            in_memory = self.in_memory(int(name)) if _is_number(str(name)) else None
            if in_memory is None:
                raise
            return in_memory
        model = self.in_memory(version_id)
        if model is not None and model.wanted == wanted:
            return model
        return await asyncio.shield(asyncio.wrap_future(self.start_loading(version_id)))  # others wait for it, too

    def in_memory(self, version_id: int) -> ServedModel | None:
        """Return the version if it is in memory, serving or cached."""
        for model in self._serving.values():
            if model.version_id == version_id:
                return model
        with self._lock:
            if version_id in self._cached:
                self._cached.move_to_end(version_id)
            return self._cached.get(version_id)

    def get_or_load(self, version_id: int) -> ServedModel:
        """Return the version, loaded now unless it is in memory; the caller keeps it.

        If there is not enough memory, cached versions are evicted first. Raises `NotFoundError`, `ConflictError` if it
        is in the trash, and `VersionNotLoadedError`, whose cause is remembered for `require_loadable`.
        """
        with self._loading:
            model = self.in_memory(version_id)
            if model is not None and model.wanted == self._find(version_id)[1]:
                return model
            try:
                return self._loader.load(version_id)
            except VersionNotLoadedError as error:
                if not error.no_room:
                    with self._checking:
                        self._checked[version_id] = (time.monotonic() + CHECK_SECONDS, error.cause)
                if not error.no_room or not self.evict_all():
                    raise
            return self._loader.load(version_id)

    def start_loading(self, version_id: int) -> Future[ServedModel]:
        """Return the version once it is in memory, verified and cached: what all who ask for it now wait for.

        The errors are those of `get_or_load`.
        """
        with self._lock:
            future = self._loads.get(version_id)
            if future is None:
                future = self._loads[version_id] = self._thread.submit(self._load, version_id)
            return future

    def require_loadable(self, version_id: int) -> None:
        """Raise `VersionNotLoadedError` if a version is not in memory and its parts are missing or damaged.

        It is not loaded for that. The result is trusted for a while, so repeated checks cost nothing.
        """
        if self.in_memory(version_id) is not None:
            return
        with self._checking:
            until, cause = self._checked.get(version_id, (0.0, None))
            if (now := time.monotonic()) >= until:
                cause = self._loader.find_damage(version_id)
                self._checked = {known: found for known, found in self._checked.items() if found[0] > now}
                self._checked[version_id] = (time.monotonic() + CHECK_SECONDS, cause)
        if cause is not None:
            raise VersionNotLoadedError(version_id, cause)

    def evict_all(self) -> int:
        """Empty the cache; return how many versions it held."""
        with self._lock:
            num_versions = len(self._cached)
            self._cached.clear()
            return num_versions

    def close(self) -> None:
        """Load no more, and let go of every version."""
        self._thread.shutdown(cancel_futures=True)
        self.evict_all()
        self._serving = {}

    def _cache(self, model: ServedModel) -> None:
        with self._lock:
            self._cached[model.version_id] = model
            self._cached.move_to_end(model.version_id)
            while sum(map(_count_bytes, self._cached.values())) > self._max_bytes:
                self._cached.popitem(last=False)

    def _find(self, name: str | int) -> tuple[int, str | None]:
        """Return the id of a version that exists and is not in the trash, and the precision that was chosen for it."""
        with self._database.read() as session:
            if isinstance(name, str) and not _is_number(name):
                row = Aliases(session).find(name)
                if row is None:
                    advice = "Use a version number (GET /v1/versions) or an alias (GET /v1/aliases)."
                    raise NotFoundError("version or alias", name, advice)
                return row.version_id, Versions(session).serving_precision(row.version_id)
            version_id = int(name)
            try:
                if not 0 < version_id <= _MAX_ID:
                    raise NotFoundError("version", version_id)
                return version_id, Versions(session).serving_precision(version_id)
            except RegistryError:
                with self._lock:
                    self._cached.pop(version_id, None)
                raise

    def _load(self, version_id: int) -> ServedModel:
        try:
            model = self.get_or_load(version_id)
            self._cache(model)
            _log.info("version loaded", version=version_id, alias=None)
            return model
        finally:
            with self._lock:
                del self._loads[version_id]


def _count_bytes(model: ServedModel) -> int:
    return max(model.own_bytes, MODULE_BYTES)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


VersionPoolDep = Annotated[VersionPool, provided(VersionPool)]
