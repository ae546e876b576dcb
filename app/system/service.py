"""The state of the process and of the installation."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import Annotated

import torch
from sqlalchemy.exc import SQLAlchemyError

from app.http.dependencies import DatabaseDep, SettingsDep, built
from app.http.errors import DrainingError, ModelFailingError
from app.jobs.dispatcher import DispatcherDep
from app.models.bases import BasesDep
from app.models.dependencies import EngineDep, ShadowDep
from app.models.pool import VersionPool, VersionPoolDep
from app.models.served_model import ServedModel
from app.models.shadow import Tally
from app.serving.engine import Engine
from app.storage.service import StorageDep
from app.system.replica import ReplicaDep
from app.system.schemas import Comparison, HealthCheck, Ready, Replica, SecondaryVersion, StorageRoom, System
from contract.versions import ACTIVE_ALIAS, CANARY_ALIAS, SHADOW_ALIAS
from registry.aliases import Aliases
from registry.database import utc_now
from registry.faults import classify_fault
from registry.job_stats import JobStats
from registry.replicas import Replicas

_LONG_WAIT_SECONDS = 120.0  # idle workers poll every 30 seconds


@dataclass(frozen=True)
class Readiness:
    """Tells whether the process is ready."""

    engine: EngineDep
    versions: VersionPoolDep
    database: DatabaseDep
    dispatcher: DispatcherDep
    storage: StorageDep

    def check(self) -> Ready:
        """Return the checks by name."""
        served = require_serving(self.engine, self.versions)
        checks = {
            "model": HealthCheck(ok=True, required=True, detail=f"serving version {served.version_id}"),
            **self._check_database(served.version_id),
            "broker": self._check_broker(),
            "storage": self._check_storage(),
        }
        status = "ok" if all(check.ok for check in checks.values()) else "degraded"
        return Ready(status=status, checks=checks)  # type: ignore[arg-type]

    def _check_database(self, serving: int) -> dict[str, HealthCheck]:
        try:
            with self.database.read() as session:
                active, figures = Aliases(session).active_version_id(), JobStats(session)
                waited, num_held = figures.longest_wait_seconds(), figures.num_held()
        except SQLAlchemyError as error:
            fault = classify_fault(error)
            reason = fault.detail if fault is not None else f"It does not respond ({type(error).__name__})."
            detail = f"{reason} Classification continues."
            return {"database": HealthCheck(ok=False, required=False, detail=detail)}
        agrees = active == serving
        detail = f"names version {active}" + ("" if agrees else ", which is not loaded in this process")
        return {
            "database": HealthCheck(ok=True, required=False, detail="answers"),
            "alias": HealthCheck(ok=agrees, required=False, detail=detail),
            "jobs": _check_jobs(waited, num_held),
        }

    def _check_storage(self) -> HealthCheck:
        try:
            room = self.storage.room()
        except OSError as error:
            reason = os.strerror(error.errno).lower() if error.errno else type(error).__name__
            return HealthCheck(
                ok=False, required=False, detail=f"cannot be checked ({reason}); classification continues"
            )
        detail = f"{room.free_bytes:,} bytes free"
        if room.spare_bytes < 0:
            detail += f", fewer than {room.min_free_bytes:,}; nothing is stored, classification continues"
        return HealthCheck(ok=room.spare_bytes >= 0, required=False, detail=detail)

    def _check_broker(self) -> HealthCheck:
        depth = self.dispatcher.depth()
        if depth is None:
            return HealthCheck(ok=False, required=False, detail="unreachable; jobs wait, classification continues")
        return HealthCheck(ok=True, required=False, detail=f"{depth} messages waiting")


def require_serving(engine: Engine, versions: VersionPool) -> ServedModel:
    """Return the served version of a process that is ready for requests.

    Raises:
        DrainingError: The process is about to stop.
        ModelFailingError: The served version failed several times in a row.
    """
    if engine.is_draining:
        raise DrainingError()
    served = versions.require_active()
    last_error = engine.health.last_error(served)
    if last_error is not None:
        engine.probe(served)  # there may be no other requests, and one success makes it ready again
        raise ModelFailingError(last_error)
    return served


@dataclass(frozen=True)
class Overview:
    """Describes this process and the installation."""

    settings: SettingsDep
    database: DatabaseDep
    bases: BasesDep
    engine: EngineDep
    versions: VersionPoolDep
    shadow: ShadowDep
    storage: StorageDep
    replica: ReplicaDep

    def describe(self) -> System:
        """Return the state; without the database, what it knows is left out."""
        active_version, named, others, fault = self._read_system()
        own = self._describe_own()
        served = self.versions.active
        device = next(iter(self.bases.values())).device
        return System(
            version=version("paintbox"),
            python=platform.python_version(),
            torch=torch.__version__,
            open_clip=version("open_clip_torch"),
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
            bases=[base.ref for base in self.bases.values()],
            active_version=active_version,
            serving_version=served.version_id if served else None,
            serving_precision=served.precision.precision if served else None,
            precision_reason=(served.precision.reason or None) if served else None,
            queued_images=self.engine.admission.num_images,
            queued_texts=self.engine.heads.admission.num_images,
            canary=self._describe_secondary(CANARY_ALIAS, named, self.settings.canary_share),
            shadow=self._describe_secondary(SHADOW_ALIAS, named, self.settings.shadow_share),
            comparison=_describe_comparison(self.shadow.tally),
            storage=self._describe_storage(),
            replica=own.id,
            replicas=sorted([*others, own], key=lambda each: (each.started_at, each.id)),
            database_fault=fault,
        )

    def _describe_own(self) -> Replica:
        who, serving = self.replica.identity, self.replica.serving
        return Replica(
            id=who.id,
            host=who.host,
            is_this=True,
            is_alive=True,
            started_at=who.started_at,
            last_seen_at=utc_now(),
            serving_version=serving.active,
            canary_version=serving.canary,
            shadow_version=serving.shadow,
        )

    def _read_system(self) -> tuple[int | None, Mapping[str, int], list[Replica], str | None]:
        """Return the versions that aliases name and the other processes, or why the database is unavailable.

        Nothing is written, so that it works on a full disk.
        """
        alive_since = utc_now() - timedelta(seconds=self.replica.alive_seconds)
        try:
            with self.database.read() as session:
                named = {row.name: row.version_id for row in Aliases(session).all()}
                rows = Replicas(session).all()
        except SQLAlchemyError as error:
            fault = classify_fault(error)
            if fault is None:
                raise
            return None, {}, [], fault.detail
        others = [row for row in rows if row.id != self.replica.identity.id]
        described = [Replica.of(row, is_alive=row.seen_at >= alive_since) for row in others]
        return named.get(ACTIVE_ALIAS), named, described, None

    def _describe_storage(self) -> StorageRoom:
        room = self.storage.room()
        return StorageRoom(
            free_bytes=room.free_bytes,
            min_free_bytes=room.min_free_bytes,
            max_stored_bytes=self.settings.max_stored_bytes,
        )

    def _describe_secondary(self, alias: str, named: Mapping[str, int], share: float) -> SecondaryVersion:
        held = self.versions.serving(alias)
        return SecondaryVersion(
            version=named.get(alias),
            serving_version=held.version_id if held else None,
            share=share,
            trouble=self.versions.last_error(alias),
        )


def _describe_comparison(tally: Tally | None) -> Comparison | None:
    if tally is None:
        return None
    return Comparison(
        active_version=tally.active,
        shadow_version=tally.shadow,
        agreement=tally.agreement,
        agreed_images=tally.agreed,
        differed_images=tally.differed,
        dropped_images=tally.dropped,
    )


def _check_jobs(waited_seconds: float, num_held: int) -> HealthCheck:
    """Check that workers take jobs: a job may wait while others run, but not for long while none runs."""
    if waited_seconds == 0:
        return HealthCheck(ok=True, required=False, detail=f"none waiting, {num_held} running")
    detail = f"longest wait {waited_seconds:.0f} s, {num_held} running"
    if num_held or waited_seconds < _LONG_WAIT_SECONDS:
        return HealthCheck(ok=True, required=False, detail=detail)
    return HealthCheck(ok=False, required=False, detail=f"{detail}: no worker takes jobs; check that one is running")


ReadinessDep = Annotated[Readiness, built(Readiness)]
OverviewDep = Annotated[Overview, built(Overview)]
