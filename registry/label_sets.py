"""Stored label sets: labels and templates that a client names by id in place of sending them with every request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import defer

from registry.errors import NotFoundError
from registry.paging import Page, read_page
from registry.references import names
from registry.repository import Repository
from registry.tables import LabelSetRow


def label_set_id(labels: Sequence[str], templates: Sequence[str]) -> str:
    """Return the id of the label set with these labels and templates, in this order; the same ones give the same id."""
    identity = json.dumps([list(labels), list(templates)])
    return "ls_" + hashlib.sha256(identity.encode()).hexdigest()[:24]


def num_bytes(labels: Sequence[str], templates: Sequence[str]) -> int:
    """Return how many bytes these labels and templates take in the database, about."""
    return len(json.dumps([list(labels), list(templates)]))


class LabelSets(Repository):
    """Label sets within one transaction. They never change; another content is another label set."""

    def get(self, identifier: str) -> LabelSetRow:
        """Return the label set, or raise `NotFoundError`."""
        return self._get(LabelSetRow, identifier, "label set")

    def newest(self, limit: int = 100, cursor: str | None = None, *, reference: str | None = None) -> Page[LabelSetRow]:
        """Return a page of label sets without their labels, newest first."""
        keys = (LabelSetRow.created_at, LabelSetRow.id)
        query = select(LabelSetRow).options(defer(LabelSetRow.labels, raiseload=True))
        if reference is not None:
            query = query.where(names(reference, LabelSetRow.id, LabelSetRow.name, "ls_"))
        return read_page(self._session, query, keys, limit, cursor)

    def add(
        self, labels: Sequence[str], templates: Sequence[str], name: str | None = None, owner: str | None = None
    ) -> tuple[LabelSetRow, bool]:
        """Return the label set of these labels and templates, and whether it was just created.

        An existing one stays as it is, whatever its owner and name.

        Args:
            templates: Prompts with `{}`; empty means the base's own.
        """
        identifier = label_set_id(labels, templates)
        row = self._session.get(LabelSetRow, identifier)
        if row is not None:
            return row, False
        row = LabelSetRow(
            id=identifier,
            name=name,
            labels=list(labels),
            num_labels=len(labels),
            num_bytes=num_bytes(labels, templates),
            templates=list(templates),
            owner=owner,
            created_at=self._now(),
        )
        try:
            with self._session.begin_nested():
                self._session.add(row)
        except IntegrityError:  # another request has just added it
            return self.get(identifier), False
        return row, True

    def remove(self, identifier: str) -> None:
        """Remove the label set; the same content may be added again, with the same id.

        Raises:
            NotFoundError: There is no such label set.
        """
        gone = self._session.scalar(delete(LabelSetRow).where(LabelSetRow.id == identifier).returning(LabelSetRow.id))
        if gone is None:
            raise NotFoundError("label set", identifier)
