"""What weights answered to the images of a split. It belongs to the weights, not to the version that was evaluated."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy import and_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased, defer

from contract.evaluations import Measurement
from registry.repository import Repository
from registry.tables import DatasetRow, MeasurementRow

_MOST_MEASUREMENTS = 1000


def measurement_id(weights_fingerprint: str, dataset_id: str, split: str, head_id: str) -> str:
    """Return the id of what these weights answer to these images under this head."""
    identity = json.dumps([weights_fingerprint, dataset_id, split, head_id])
    return "ms_" + hashlib.sha256(identity.encode()).hexdigest()[:32]


class MeasuredAccuracy(NamedTuple):
    """How accurate some weights were on a split of a data set, 0 to 1."""

    weights_fingerprint: str
    dataset_id: str
    name: str
    split: str
    accuracy: float


class Measurements(Repository):
    """Measurements within one transaction."""

    def find(self, identifiers: Collection[str]) -> dict[str, MeasurementRow]:
        """Return those of these measurements that exist, by id."""
        rows = self._session.scalars(select(MeasurementRow).where(MeasurementRow.id.in_(identifiers)))
        return {row.id: row for row in rows}

    def add(
        self,
        *,
        weights_fingerprint: str,
        dataset_id: str,
        split: str,
        head_id: str,
        is_own_head: bool,
        num_images: int,
        result: Measurement | None,
        predictions_sha256: str,
        num_bytes: int,
        owner: str | None,
        patch_id: str | None = None,
    ) -> str:
        """Record what some weights answered, once, and return its id; a later one of the same id changes nothing."""
        identifier = measurement_id(weights_fingerprint, dataset_id, split, head_id)
        if self._session.get(MeasurementRow, identifier) is None:
            row = MeasurementRow(
                id=identifier,
                weights_fingerprint=weights_fingerprint,
                dataset_id=dataset_id,
                split=split,
                head_id=head_id,
                is_own_head=is_own_head,
                num_images=num_images,
                result=None if result is None else result.to_json(),
                predictions_sha256=predictions_sha256,
                num_bytes=num_bytes,
                patch_id=patch_id,
                owner=owner,
                created_at=self._now(),
            )
            with suppress(IntegrityError), self._session.begin_nested():  # two jobs may measure the same
                self._session.add(row)
                self._session.flush()
        return identifier

    def of_weights(self, fingerprint: str | None) -> list[MeasurementRow]:
        """Return what some weights were measured on, with labels and under the data sets' own ones; newest first.

        Results, which may be large, are loaded on access only; at most a thousand measurements.
        """
        query = select(MeasurementRow).where(
            MeasurementRow.weights_fingerprint == fingerprint,
            MeasurementRow.is_own_head,
            MeasurementRow.result.is_not(None),
        )
        query = query.order_by(MeasurementRow.created_at.desc(), MeasurementRow.id).limit(_MOST_MEASUREMENTS)
        return list(self._session.scalars(query.options(defer(MeasurementRow.result))))

    def accuracies(self, fingerprints: Collection[str]) -> list[MeasuredAccuracy]:
        """Return how accurate some weights were on data sets under their own labels; at most a thousand, newest first.

        Data sets that were deleted are left out.
        """
        query = (
            select(
                MeasurementRow.weights_fingerprint,
                MeasurementRow.dataset_id,
                DatasetRow.name,
                MeasurementRow.split,
                MeasurementRow.result[("score", "accuracy")].as_float(),
            )
            .join(DatasetRow, DatasetRow.id == MeasurementRow.dataset_id)
            .where(MeasurementRow.weights_fingerprint.in_(fingerprints), MeasurementRow.is_own_head)
            .where(MeasurementRow.result.is_not(None))
            .order_by(MeasurementRow.created_at.desc(), MeasurementRow.id)
            .limit(_MOST_MEASUREMENTS)
        )
        return [MeasuredAccuracy(*row) for row in self._session.execute(query)]

    def pairs(self, before: str, after: str) -> list[tuple[MeasurementRow, MeasurementRow]]:
        """Return what two weights were both measured on, under the data sets' own labels; newest first.

        Args:
            before: Fingerprint of weights.
            after: Fingerprint of others, of the same base.
        """
        one, other = aliased(MeasurementRow), aliased(MeasurementRow)
        same = and_(
            one.dataset_id == other.dataset_id, one.split == other.split, one.head_id == other.head_id, one.is_own_head
        )
        query = select(one, other).join(other, same).where(one.result.is_not(None), other.result.is_not(None))
        query = query.where(one.weights_fingerprint == before, other.weights_fingerprint == after)
        return [(row[0], row[1]) for row in self._session.execute(query.order_by(other.created_at.desc(), other.id))]
