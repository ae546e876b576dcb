"""From a version's number to a model that may be served: read what it is made of, mix it, warm it, check it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from app.http.errors import VersionNotLoadedError
from app.serving.health import is_out_of_memory
from app.serving.model import ServedModel, VersionRecipe, build_served_model
from app.serving.throttle import Throttle
from paint_core.errors import PaintCoreError
from paint_core.models import BaseModel
from registry.blobs import BlobStore
from registry.database import Database
from registry.errors import BlobCorruptError, BlobMissingError, RegistryError
from registry.versions import Versions

_log = structlog.get_logger(__name__)


class VersionLoader:
    """Builds versions. Keeps none, and takes no turns: `VersionCache` does both.

    Args:
        database: Holds versions.
        blobs: Holds task vectors.
        bases: Loaded base models by fingerprint.
        has_pending: Whether requests need the cores that building takes; then it takes few of them.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        bases: Mapping[str, BaseModel],
        has_pending: Callable[[], bool] = bool,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._bases = bases
        self._has_pending = has_pending

    def load(self, version_id: int) -> ServedModel:
        """Return the version, built and verified.

        Args:
            version_id: The version.

        Returns:
            A model that may be served at once.

        Raises:
            VersionNotLoadedError: It could not be built or verified.
        """
        recipe = self._recipe(version_id)
        base = self._bases.get(recipe.base_fingerprint)
        if base is None:
            raise VersionNotLoadedError(version_id, _no_base(recipe.base_fingerprint))
        try:
            return build_served_model(recipe, base, self._blobs, Throttle(self._has_pending))
        except Exception as error:  # an edge: nothing that a bad version does may stop those that are good
            _log.exception("version not loaded", version=version_id)
            no_room = is_out_of_memory(error)
            raise VersionNotLoadedError(version_id, _cause(error, no_room), no_room=no_room) from error

    def find_damage(self, version_id: int) -> str | None:
        """Return why the version cannot be built, as far as its base and the hashes of its task vectors tell.

        Args:
            version_id: The version.

        Returns:
            The cause; None: nothing is missing or damaged.
        """
        recipe = self._recipe(version_id)
        if recipe.base_fingerprint not in self._bases:
            return _no_base(recipe.base_fingerprint)
        try:
            for sha256 in {term.task_vector_sha256 for term in recipe.terms}:
                self._blobs.fetch(sha256)
        except (BlobMissingError, BlobCorruptError) as error:
            return error.detail
        return None

    def _recipe(self, version_id: int) -> VersionRecipe:
        with self._database.read() as session:
            versions = Versions(session)
            row = versions.get_not_trashed(version_id)
            terms = tuple(versions.terms(version_id))
        probe = tuple(tuple(float(value) for value in features) for features in row.probe)
        return VersionRecipe(version_id, row.base_fingerprint, terms, probe)


def _no_base(fingerprint: str) -> str:
    return f"its base {fingerprint[:12]}… is not loaded; add it to PAINTBOX_BASES and restart."


def _cause(error: Exception, no_room: bool) -> str:
    if no_room:
        return "there is not enough memory for another image tower."
    if isinstance(error, RegistryError):
        return error.detail
    if isinstance(error, PaintCoreError):
        return f"{error}."
    return f"{type(error).__name__} while loading it; see the log of the API."
