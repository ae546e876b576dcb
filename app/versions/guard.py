"""Whether an alias may move to a version: the limits of supported tasks, and whether the version loads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from starlette.concurrency import run_in_threadpool

from app.http.dependencies import BlobsDep, DatabaseDep, SettingsDep, built
from app.http.errors import NotEvaluatedError, SupportedDropError, VersionNotLoadedError
from app.models.pool import VersionPoolDep
from app.versions.check_intervals import find_interval
from app.versions.check_schemas import AliasCheck, CheckedTask, CheckReason, MissingEvaluation, mean_change
from contract.versions import ACTIVE_ALIAS, GUARDED_ALIASES, LOADED_ALIASES
from registry.acceptance import Assessment, assess
from registry.aliases import Aliases
from registry.evidence import Evidence, EvidenceReader
from registry.versions import Versions


@dataclass(frozen=True)
class AliasGuard:
    """Decides whether aliases may move."""

    database: DatabaseDep
    blobs: BlobsDep
    versions: VersionPoolDep
    settings: SettingsDep

    def require_within_limits(self, alias: str, version_id: int) -> None:
        """Raise an error if the alias answers requests and the version is not known to keep its limits.

        Raises:
            SupportedDropError: Supported tasks drop by more than their limits.
            NotEvaluatedError: A supported task with a limit has not been measured on the version's weights.
        """
        if alias in GUARDED_ALIASES:
            with self.database.read() as session:
                evidence = EvidenceReader(session).of_version(version_id)
            for refusal in _refusals(version_id, assess(evidence, self.settings.max_supported_drop)):
                raise refusal

    async def require_loadable(self, alias: str, version_id: int) -> None:
        """Raise `VersionNotLoadedError` if the version cannot be served under the alias.

        For an alias that is kept in memory, the version is loaded and verified; for others its parts are checked. If
        there is not enough memory, `canary` and `shadow` may move all the same: their old versions make room first.
        """
        if alias in LOADED_ALIASES and self.versions.in_memory(version_id) is None:
            try:
                await asyncio.shield(asyncio.wrap_future(self.versions.start_loading(version_id)))
                return
            except VersionNotLoadedError as error:
                if alias == ACTIVE_ALIAS or not error.no_room:
                    raise
        await run_in_threadpool(self.versions.require_loadable, version_id)

    async def check(self, alias: str, version_id: int) -> AliasCheck:
        """Return whether the alias may move to the version. Errors as for `Versions.get_not_trashed`."""
        await run_in_threadpool(self._require_not_trashed, version_id)
        trouble = None
        try:
            await self.require_loadable(alias, version_id)
        except VersionNotLoadedError as error:
            trouble = error
        return await run_in_threadpool(self._describe, alias, version_id, trouble)

    def _require_not_trashed(self, version_id: int) -> None:
        with self.database.read() as session:
            Versions(session).serving_precision(version_id)

    def _describe(self, alias: str, version_id: int, trouble: VersionNotLoadedError | None) -> AliasCheck:
        with self.database.read() as session:
            evidence = EvidenceReader(session).of_version(version_id)
            row = Aliases(session).find(alias)
        assessment = assess(evidence, self.settings.max_supported_drop)
        refusals = list(_refusals(version_id, assessment)) if alias in GUARDED_ALIASES else []
        reasons = [*refusals, *([trouble] if trouble else [])]
        tasks = list(self._tasks(evidence, assessment))
        return AliasCheck(
            alias=alias,
            version=version_id,
            current_version=row.version_id if row else None,
            accepted=not reasons,
            reasons=[CheckReason(code=each.code, detail=each.detail) for each in reasons],
            loads=trouble is None,
            tasks=tasks,
            missing=[MissingEvaluation.of(each) for each in assessment.missing],
            mean_supported_change_points=mean_change(tasks, "supported"),
            mean_patching_change_points=mean_change(tasks, "patching"),
        )

    def _tasks(self, evidence: Evidence, assessment: Assessment) -> Iterator[CheckedTask]:
        """Yield the measured tasks, each once: the supported ones as they were judged, then the others."""
        for drop in assessment.drops:
            task = drop.measurement
            yield CheckedTask.of(task, "supported", drop, find_interval(task, self.blobs))
        seen = {drop.measurement.dataset_id for drop in assessment.drops}
        for each in evidence.measurements:
            if each.dataset_id not in seen:
                seen.add(each.dataset_id)
                yield CheckedTask.of(each, each.role, None, find_interval(each, self.blobs))


def _refusals(version_id: int, assessment: Assessment) -> Iterator[SupportedDropError | NotEvaluatedError]:
    """Yield why a version may not answer requests, the measured drops first."""
    if assessment.too_large:
        yield SupportedDropError(version_id, assessment.too_large)
    if assessment.is_unmeasured:
        yield NotEvaluatedError(version_id, assessment.missing)


AliasGuardDep = Annotated[AliasGuard, built(AliasGuard)]
