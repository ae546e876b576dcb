"""Versions in memory: those that aliases name are the engine's; others were, or somebody asked for them by id."""

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
from app.http.errors import VersionNotLoadedError
from app.models.loader import VersionLoader
from app.serving.engine import Engine
from app.serving.model import ServedModel, own_bytes
from contract.versions import ACTIVE_ALIAS
from registry.aliases import Aliases
from registry.database import Database
from registry.errors import NotFoundError, RegistryError
from registry.versions import Versions

MODULE_BYTES = 1 << 20
"""What a version takes at least, whatever it shares with its base: the tower's modules."""

CHECK_SECONDS = 60.0
"""How long what was found out about a version's parts is believed."""

_MAX_ID = (1 << 31) - 1
_log = structlog.get_logger(__name__)


class VersionCache:
    """Finds versions in memory and loads those that are not there, one at a time: each needs room for an image tower.

    What was asked for by id, and what was active before, is kept until others need its room, least recently used out
    first: to go back to it takes milliseconds, and nothing that has become of its blobs can prevent it. A version that
    goes out lives on as long as a request holds it.

    Args:
        database: Knows which versions and aliases there are.
        loader: Builds versions.
        engine: Holds those that aliases name.
        max_bytes: Room for the image towers of these versions; 0 keeps none.
    """

    def __init__(self, database: Database, loader: VersionLoader, engine: Engine, max_bytes: int) -> None:
        self._database = database
        self._loader = loader
        self._engine = engine
        self._max_bytes = max_bytes
        self._kept: OrderedDict[int, tuple[ServedModel, int]] = OrderedDict()
        self._coming: dict[int, Future[ServedModel]] = {}
        self._changing = threading.Lock()  # held for moments: the event loop takes it, too
        self._loading = threading.Lock()  # held for as long as a load lasts
        self._checking = threading.Lock()
        self._checked: dict[int, tuple[float, str | None]] = {}  # until when, and what is wrong
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="paintbox-version")

    @property
    def num_bytes(self) -> int:
        """What the versions that are kept here take."""
        with self._changing:
            return sum(num_bytes for _, num_bytes in self._kept.values())

    async def get(self, name: str | int) -> ServedModel:
        """Return a version for one request, loaded first if need be.

        Args:
            name: A version's number, as a number or in digits, or an alias.

        Returns:
            A model to hold until the request is answered.

        Raises:
            NotFoundError: There is no such version or alias.
            ConflictError: The version is in the trash.
            ModelNotLoadedError: It is asked for as `active`, which could not be loaded.
            VersionNotLoadedError: It could not be loaded.
        """
        if name == ACTIVE_ALIAS:
            return self._engine.require_served()
        beside = self._engine.secondary(name) if isinstance(name, str) else None
        if beside is not None:
            return beside
        try:
            version_id = await run_in_threadpool(self._require_kept, name)
        except SQLAlchemyError:  # the database is away: what is in memory was there a moment ago
            held = self.held(int(name)) if _is_number(str(name)) else None
            if held is None:
                raise
            return held
        held = self.held(version_id)
        if held is not None:
            return held
        return await asyncio.shield(asyncio.wrap_future(self._load_once(version_id)))  # others wait for it, too

    def held(self, version_id: int) -> ServedModel | None:
        """Return the version if it is in memory, whoever asked for it."""
        model = self._engine.loaded(version_id)
        if model is not None:
            return model
        with self._changing:
            if version_id not in self._kept:
                return None
            self._kept.move_to_end(version_id)
            return self._kept[version_id][0]

    def require_loadable(self, version_id: int) -> None:
        """Refuse a version that is not in memory and whose parts are missing or damaged; it is not loaded for that.

        What was found out is believed for a while, so that a probe that asks again and again costs nothing.

        Args:
            version_id: The version.

        Raises:
            VersionNotLoadedError: It could not be built.
        """
        if self.held(version_id) is not None:
            return
        with self._checking:
            until, cause = self._checked.get(version_id, (0.0, None))
            if time.monotonic() >= until:
                cause = self._loader.find_damage(version_id)
                self._checked = {known: found for known, found in self._checked.items() if found[0] > time.monotonic()}
                self._checked[version_id] = (time.monotonic() + CHECK_SECONDS, cause)
        if cause is not None:
            raise VersionNotLoadedError(version_id, cause)

    def obtain(self, version_id: int) -> ServedModel:
        """Return the version, loaded now unless it is in memory; whoever calls this keeps it.

        If there is no memory for it, those that are only kept for later go first.

        Args:
            version_id: The version.

        Returns:
            A model that may be served at once.

        Raises:
            NotFoundError: There is no such version.
            ConflictError: It is in the trash.
            VersionNotLoadedError: It could not be built or verified.
        """
        with self._loading:
            held = self.held(version_id)
            if held is not None:
                return held
            try:
                return self._loader.load(version_id)
            except VersionNotLoadedError as error:
                if not error.no_room:
                    with self._checking:
                        self._checked[version_id] = (time.monotonic() + CHECK_SECONDS, error.cause)
                if not error.no_room or not self.forget_all():
                    raise
            return self._loader.load(version_id)

    def keep(self, model: ServedModel) -> None:
        """Keep the version for whoever asks for it next, as long as there is room."""
        with self._changing:
            self._kept[model.version_id] = (model, max(own_bytes(model), MODULE_BYTES))
            self._kept.move_to_end(model.version_id)
            while sum(num_bytes for _, num_bytes in self._kept.values()) > self._max_bytes:
                self._kept.popitem(last=False)

    def forget(self, version_id: int) -> None:
        """Keep the version no longer."""
        with self._changing:
            self._kept.pop(version_id, None)

    def forget_all(self) -> int:
        """Keep no version any longer; return how many that were."""
        with self._changing:
            num_versions = len(self._kept)
            self._kept.clear()
            return num_versions

    def close(self) -> None:
        """Load no more, and let go of every version."""
        self._thread.shutdown(cancel_futures=True)
        self.forget_all()

    def _require_kept(self, name: str | int) -> int:
        """Return the number of a version that is there and not in the trash."""
        with self._database.read() as session:
            if isinstance(name, str) and not _is_number(name):
                row = Aliases(session).find(name)
                if row is None:
                    advice = "Use a version number (GET /v1/versions) or an alias (GET /v1/aliases)."
                    raise NotFoundError("version or alias", name, advice)
                return row.version_id
            version_id = int(name)
            try:
                if not 0 < version_id <= _MAX_ID:
                    raise NotFoundError("version", version_id)
                Versions(session).require_not_trashed(version_id)
            except RegistryError:
                self.forget(version_id)
                raise
            return version_id

    def _load_once(self, version_id: int) -> Future[ServedModel]:
        """Return what all who ask for the version at this moment wait for."""
        with self._changing:
            future = self._coming.get(version_id)
            if future is None:
                future = self._coming[version_id] = self._thread.submit(self._load, version_id)
            return future

    def _load(self, version_id: int) -> ServedModel:
        try:
            model = self.obtain(version_id)
            self.keep(model)
            _log.info("version loaded", version=version_id, alias=None)
            return model
        finally:
            with self._changing:
                del self._coming[version_id]


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


VersionCacheDep = Annotated[VersionCache, provided(VersionCache)]
