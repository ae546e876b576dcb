"""Two versions side by side: their terms, and what both answered to the same images. Nothing is computed by a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, cast

import pyarrow.compute as pc
from sqlalchemy.orm import Session

from app.http.dependencies import BlobsDep, DatabaseDep, built
from app.versions.compare_schemas import ComparedTask, ComparedVersion, ComparedVersions, UncomparedTask
from app.versions.schemas import VersionTerm
from contract.routing import RoutingMode
from contract.scores import AccuracyChange, SplitScore
from paint_core.evaluation.statistics import paired_difference
from pipeline.differences import describe_difference
from registry.aliases import Aliases
from registry.errors import RegistryError
from registry.measurements import Measurements
from registry.predictions import read_predictions
from registry.tables import DatasetRow, MeasurementRow, VersionRow
from registry.versions import TermSpec, Versions

MAX_TASKS = 32
"""Tasks that are compared, the newest evaluations."""

_Pair = tuple[MeasurementRow, MeasurementRow]


@dataclass(frozen=True)
class VersionComparer:
    """Compares versions."""

    database: DatabaseDep
    blobs: BlobsDep

    def compare(self, before: int, after: int) -> ComparedVersions:
        """Return what distinguishes two versions.

        Raises:
            NotFoundError: One of them does not exist.
        """
        with self.database.read() as session:
            rows = [Versions(session).get(each) for each in (before, after)]
            sides = _describe(session, rows)
            weights = [row.weights_fingerprint for row in rows]
            found = [Measurements(session).of_weights(each) for each in weights]
            pairs = _pair(*found)[:MAX_TASKS]
            scores = [_scores(pair) for pair in pairs]
            uncompared = [] if weights[0] == weights[1] else list(_unpaired(session, rows, found))
            names = {each.dataset_id: _name(session, each.dataset_id) for each, _ in pairs}
        return ComparedVersions(
            before=sides[0],
            after=sides[1],
            same_weights=None if None in weights else weights[0] == weights[1],
            tasks=[self._compare(pair, *each, names) for pair, each in zip(pairs, scores, strict=True)],
            uncompared=uncompared[:MAX_TASKS],
        )

    def _compare(
        self, pair: _Pair, before: SplitScore, after: SplitScore, names: dict[str, str | None]
    ) -> ComparedTask:
        dataset, split = pair[1].dataset_id, pair[1].split
        counts = self._count(pair)
        changed, lost, gained = counts or (None, None, None)
        change = None
        if counts is not None:
            difference = paired_difference(counts[2], counts[1], after.total)
            change = AccuracyChange(**describe_difference(difference))
        return ComparedTask(
            dataset=dataset,
            name=names[dataset],
            split=split,
            before=before,
            after=after,
            changed=changed,
            lost=lost,
            gained=gained,
            change=change,
        )

    def _count(self, pair: _Pair) -> tuple[int, int, int] | None:
        """Return the numbers of images with another answer, lost and gained; None: an answer is not stored any more."""
        try:
            before, after = (read_predictions(self.blobs.fetch(each.predictions_sha256)).table for each in pair)
        except RegistryError:
            return None
        changed = pc.sum(pc.not_equal(before["predicted"], after["predicted"])).as_py() or 0
        was_right, is_right = (pc.equal(each["predicted"], each["label"]) for each in (before, after))
        lost, gained = pc.and_not(was_right, is_right), pc.and_not(is_right, was_right)
        return changed, pc.sum(lost).as_py() or 0, pc.sum(gained).as_py() or 0


VersionComparerDep = Annotated[VersionComparer, built(VersionComparer)]


def _describe(session: Session, rows: Sequence[VersionRow]) -> list[ComparedVersion]:
    versions, ids = Versions(session), [row.id for row in rows]
    terms = versions.terms_of(ids)
    aliases = Aliases(session).all()

    def only(mine: Sequence[TermSpec], theirs: Sequence[TermSpec]) -> list[VersionTerm]:
        return [VersionTerm.of(term) for term in mine if term not in theirs]

    return [
        ComparedVersion(
            id=row.id,
            name=row.name,
            base=versions.base(row.base_fingerprint).ref,
            weights_fingerprint=row.weights_fingerprint,
            routing=cast(RoutingMode, row.routing),
            aliases=[alias.name for alias in aliases if alias.version_id == row.id],
            terms=only(terms[row.id], terms[other.id]),
        )
        for row, other in zip(rows, reversed(rows), strict=True)
    ]


def _scores(pair: _Pair) -> tuple[SplitScore, SplitScore]:
    before, after = (SplitScore.of_stored((each.result or {})["score"]) for each in pair)
    return before, after


def _key(row: MeasurementRow) -> tuple[str, str, str]:
    return row.dataset_id, row.split, row.head_id


def _pair(before: Sequence[MeasurementRow], after: Sequence[MeasurementRow]) -> list[_Pair]:
    known = {_key(each): each for each in before}
    return [(known[_key(each)], each) for each in after if _key(each) in known]


def _unpaired(
    session: Session, rows: Sequence[VersionRow], found: Sequence[Sequence[MeasurementRow]]
) -> list[UncomparedTask]:
    keys = [{_key(each) for each in side} for side in found]
    return [
        UncomparedTask(
            dataset=each.dataset_id, name=_name(session, each.dataset_id), split=each.split, missing=rows[1 - side].id
        )
        for side in (0, 1)
        for each in found[side]
        if _key(each) not in keys[1 - side]
    ]


def _name(session: Session, dataset_id: str) -> str | None:
    row = session.get(DatasetRow, dataset_id)
    return None if row is None else row.name
