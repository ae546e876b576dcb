"""Moving the alias `active`: load beside, verify, commit, swap. Whatever fails leaves the old version serving.

The alias is committed before the swap. A crash between the two is harmless: a restart, and every other replica within
a second, loads what the alias names.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress

import structlog

from app.errors import ActivationFailedError, ActivationInProgressError
from app.serving.engine import Engine
from app.serving.model import ServedModel, VersionRecipe, build_served_model
from paint_core.errors import PaintCoreError
from paint_core.models import BaseModel
from registry.aliases import Aliases
from registry.blobs import BlobStore
from registry.contract import ACTIVE_ALIAS
from registry.database import Database
from registry.errors import RegistryError
from registry.versions import Versions

RETRY_SECONDS = 30.0
_log = structlog.get_logger(__name__)


class Activator:
    """Loads versions into the engine, one at a time.

    Args:
        database: Holds versions and aliases.
        blobs: Holds task vectors.
        bases: Loaded base models by fingerprint.
        engine: Serves what is loaded.
    """

    def __init__(self, database: Database, blobs: BlobStore, bases: Mapping[str, BaseModel], engine: Engine) -> None:
        self._database = database
        self._blobs = blobs
        self._bases = bases
        self._engine = engine
        self._lock = threading.Lock()
        self._failed: tuple[int, float] | None = None  # version that would not load, and when to try it again

    def activate(
        self,
        version_id: int,
        *,
        actor: str,
        reason: str,
        expected: Collection[int] | None = None,
        forced: bool = False,
    ) -> None:
        """Make the version active: it answers every request that starts after this returns.

        Args:
            version_id: The version.
            actor: Who asks, for the history.
            reason: Why, for the history.
            expected: Revisions of which the alias must have one, before and after the version is loaded; None: any.
            forced: For the history: whether it was asked for whatever it costs the supported tasks.

        Raises:
            NotFoundError: There is no such version.
            ConflictError: It is in the trash.
            AliasMovedError: The alias has another revision.
            ActivationInProgressError: Another activation has not ended yet.
            ActivationFailedError: It could not be loaded or verified; nothing has changed.
        """
        with self.busy():
            with self._database.read() as session:
                Aliases(session).require_revision(ACTIVE_ALIAS, expected)
            recipe = self._recipe(version_id)
            model = self._engine.loaded(version_id) or self._build(recipe)
            with self._database.write() as session:
                aliases = Aliases(session)
                if aliases.active_version_id() != version_id:
                    aliases.move(ACTIVE_ALIAS, version_id, actor=actor, reason=reason, expected=expected, forced=forced)
            self._engine.swap(model)
            _log.info("version activated", version=version_id)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Hold every other activation off while the context lasts.

        Yields:
            None: What is served changes only here.

        Raises:
            ActivationInProgressError: Another activation has not ended yet.
        """
        if not self._lock.acquire(blocking=False):
            raise ActivationInProgressError()
        try:
            yield
        finally:
            self._lock.release()

    def follow_alias(self) -> None:
        """Serve what the alias names, if that is something else; a version that will not load is logged and retried."""
        served = self._engine.served
        if served is not None and served.version_id == self._named():
            return
        with suppress(ActivationInProgressError), self.busy():
            self._load_named()

    def load(self, version_id: int) -> ServedModel:
        """Return the version, built and verified; it answers nothing yet.

        Args:
            version_id: The version.

        Returns:
            A model that may be served at once.

        Raises:
            NotFoundError: There is no such version.
            ConflictError: It is in the trash.
            ActivationFailedError: It could not be loaded or verified.
        """
        return self._build(self._recipe(version_id))

    def _load_named(self) -> None:
        version_id = self._named()
        served = self._engine.served
        if version_id is None or (served is not None and served.version_id == version_id):
            return
        if self._failed and self._failed[0] == version_id and time.monotonic() < self._failed[1]:
            return
        try:
            self._engine.swap(self._engine.loaded(version_id) or self.load(version_id))
        except ActivationFailedError as error:
            self._failed = (version_id, time.monotonic() + RETRY_SECONDS)
            self._engine.report_trouble(error.detail)
            return
        self._failed = None
        _log.info("version loaded", version=version_id)

    def _named(self) -> int | None:
        with self._database.read() as session:
            return Aliases(session).active_version_id()

    def _recipe(self, version_id: int) -> VersionRecipe:
        with self._database.read() as session:
            versions = Versions(session)
            row = versions.get_kept(version_id)
            terms = tuple(versions.terms(version_id))
        probe = tuple(tuple(float(value) for value in features) for features in row.probe)
        return VersionRecipe(version_id, row.base_fingerprint, terms, probe)

    def _build(self, recipe: VersionRecipe) -> ServedModel:
        base = self._bases.get(recipe.base_fingerprint)
        if base is None:
            cause = f"its base {recipe.base_fingerprint[:12]}… is not loaded; name it in PAINTBOX_BASES and restart."
            raise ActivationFailedError(recipe.version_id, cause)
        try:
            return build_served_model(recipe, base, self._blobs)
        except Exception as error:  # an edge: nothing that a bad version does may stop the old one
            _log.exception("version not loaded", version=recipe.version_id)
            raise ActivationFailedError(recipe.version_id, _cause(error)) from error


def _cause(error: Exception) -> str:
    if isinstance(error, RegistryError):
        return error.detail
    if isinstance(error, PaintCoreError):
        return f"{error}."
    return f"{type(error).__name__} while loading it; the API's log tells more."
