"""What is known about the weights of a version: measurements of these weights, and limits that were set for them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import chain

from sqlalchemy import or_, select, tuple_

from contract.evaluation import Evaluation
from contract.evaluations import Measurement
from contract.scores import AccuracyChange, SplitScore, TaskRole
from registry.measurements import Measurements
from registry.repository import Repository
from registry.tables import DatasetRow, VersionParentRow, VersionRow
from registry.versions import Versions


@dataclass(frozen=True)
class MeasuredTask:
    """The accuracies of one task with the base and with certain weights.

    Attributes:
        split: The images, `test` or `validation`.
        version_id: The version that was evaluated; None: the weights were measured on request, or are not registered.
        change: With its confidence interval, where that was recorded.
        predictions: SHA-256 of the answers of the base and of the weights, where they are stored.
    """

    dataset_id: str
    name: str
    role: TaskRole
    split: str
    version_id: int | None
    zero_shot: SplitScore
    patched: SplitScore
    change: AccuracyChange | None = None
    predictions: tuple[str, str] | None = None


@dataclass(frozen=True)
class Evidence:
    """What the guard judges a version by.

    Attributes:
        measurements: Of the version's weights, the ones to believe first; evaluations on request are the last ones.
        own: The version's own evaluation, with the limits of its patch or reselection.
        others: Evaluations of versions with the same weights; and those of all its ancestors and of versions with the
            weights of these, unless a patch's job made the version: then the patch's request names all limits.
        is_base: Whether the weights are those of the base.
    """

    measurements: tuple[MeasuredTask, ...] = ()
    own: Evaluation | None = None
    others: tuple[Evaluation, ...] = ()
    is_base: bool = False

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """All evaluations, the version's own first."""
        return self.others if self.own is None else (self.own, *self.others)


class EvidenceReader(Repository):
    """Looks up evidence within one transaction."""

    def of_version(self, version_id: int) -> Evidence:
        """Return what is known about the weights of a version; errors as for `Versions.get`."""
        row = Versions(self._session).get(version_id)
        own = None if row.evaluation is None else Evaluation.of_stored(row.evaluation)
        alike = self._evaluated(row.base_fingerprint, row.weights_fingerprint, without=row.id)
        ancestors = [] if row.job_id is not None else self._evaluations_of_ancestors(row.id)
        found = [*_read(row.id, own), *chain.from_iterable(_read(*each) for each in alike.items())]
        evidence = Evidence(
            measurements=tuple(found),
            own=own,
            others=(*alike.values(), *ancestors),
            is_base=Versions(self._session).equals_base(version_id),
        )
        return self._with_requested(evidence, row.base_fingerprint, row.weights_fingerprint)

    def of_new(self, base_fingerprint: str, weights_fingerprint: str, evaluation: Evaluation) -> Evidence:
        """Return what is known about weights that a patch's job has made and not registered yet.

        Args:
            evaluation: Of these weights, by that job.
        """
        alike = self._evaluated(base_fingerprint, weights_fingerprint)
        found = [*_read(None, evaluation), *chain.from_iterable(_read(*each) for each in alike.items())]
        evidence = Evidence(tuple(found), evaluation, tuple(alike.values()))
        return self._with_requested(evidence, base_fingerprint, weights_fingerprint)

    def _with_requested(self, evidence: Evidence, base_fingerprint: str, weights_fingerprint: str | None) -> Evidence:
        """Return the evidence with what was measured on request; measurements on test images come first."""
        improved = {task.dataset_id for each in evidence.evaluations for task in each.tasks}
        improved -= {task.dataset_id for each in evidence.evaluations for task in each.supported}
        found = [*evidence.measurements, *self._requested(base_fingerprint, weights_fingerprint, improved)]
        return replace(evidence, measurements=tuple(sorted(found, key=lambda each: each.split != "test")))

    def _requested(
        self, base_fingerprint: str, weights_fingerprint: str | None, improved: Collection[str]
    ) -> Iterator[MeasuredTask]:
        """Yield what evaluations measured, of data sets on which the base was measured, too; see `Measurements`.

        Args:
            improved: Data sets that the weights were to improve on; all others are supported tasks.
        """
        base = Versions(self._session).base_version(base_fingerprint)
        if base is None or base.weights_fingerprint is None or weights_fingerprint is None:
            return
        for before, after in Measurements(self._session).pairs(base.weights_fingerprint, weights_fingerprint):
            dataset = self._session.get(DatasetRow, after.dataset_id)
            if after.split != "train" and before.result is not None and after.result is not None:
                yield MeasuredTask(
                    dataset_id=after.dataset_id,
                    name=after.dataset_id if dataset is None else dataset.name,
                    role="patching" if after.dataset_id in improved else "supported",
                    split=after.split,
                    version_id=None,
                    zero_shot=Measurement.of_stored(before.result).score,
                    patched=Measurement.of_stored(after.result).score,
                    predictions=(before.predictions_sha256, after.predictions_sha256),
                )

    def _evaluated(
        self, base_fingerprint: str, weights_fingerprint: str | None, without: int | None = None
    ) -> dict[int, Evaluation]:
        """Return the evaluations of all versions with these weights, by version, newest first."""
        if weights_fingerprint is None:  # registered by an older release
            return {}
        query = select(VersionRow.id, VersionRow.evaluation).where(
            VersionRow.base_fingerprint == base_fingerprint,
            VersionRow.weights_fingerprint == weights_fingerprint,
            VersionRow.evaluation.is_not(None),
            VersionRow.id != (without or 0),
        )
        rows = self._session.execute(query.order_by(VersionRow.id.desc())).all()
        return {row.id: Evaluation.of_stored(row.evaluation) for row in rows}

    def _evaluations_of_ancestors(self, version_id: int) -> list[Evaluation]:
        """Return the evaluations of the versions that this one was made from, directly or not, and of their weights."""
        line = select(VersionParentRow.parent_id).where(VersionParentRow.version_id == version_id).cte(recursive=True)
        older = select(VersionParentRow.parent_id).join(line, VersionParentRow.version_id == line.c.parent_id)
        ids = select(line.union(older).c.parent_id)
        weights = select(VersionRow.base_fingerprint, VersionRow.weights_fingerprint).where(VersionRow.id.in_(ids))
        query = select(VersionRow.evaluation).where(
            VersionRow.evaluation.is_not(None),
            VersionRow.id != version_id,
            or_(
                VersionRow.id.in_(ids),
                tuple_(VersionRow.base_fingerprint, VersionRow.weights_fingerprint).in_(weights),
            ),
        )
        return [Evaluation.of_stored(each) for each in self._session.scalars(query) if each is not None]


def _read(version_id: int | None, evaluation: Evaluation | None) -> Iterator[MeasuredTask]:
    if evaluation is None:
        return
    for task in evaluation.tasks:
        yield MeasuredTask(
            dataset_id=task.dataset_id,
            name=task.name,
            role=task.role,
            split=evaluation.split,
            version_id=version_id,
            zero_shot=task.zero_shot,
            patched=task.patched,
            change=task.change,
        )
