"""Making, listing and removing label sets."""

from __future__ import annotations

from app.inference.label_sets.schemas import LabelSet, LabelSetBrief, LabelSetList, LabelSetRequest
from app.labels.checks import check_given, check_size
from app.labels.stored import StoredLabels
from app.models.pool import VersionPool
from app.serving.engine import Engine
from app.settings import AppSettings
from registry.database import Database
from registry.label_sets import LabelSets


def create_label_set(
    database: Database,
    engine: Engine,
    versions: VersionPool,
    settings: AppSettings,
    request: LabelSetRequest,
    owner: str | None,
) -> tuple[LabelSet, bool]:
    """Return the label set and whether it is new; its head is built ahead if the text tower is idle.

    Args:
        database: Holds it.
        engine: Builds heads.
        versions: Holds the active version, for whose base the head is built.
        settings: Hold the limits.
        request: What it is to hold.
        owner: Whose it is to be.

    Returns:
        The label set, and whether it was made just now.
    """
    check_given(request.labels)
    check_size(len(request.labels), len(request.templates) or 1, settings)
    with database.write() as session:
        row, is_new = LabelSets(session).add(request.labels, request.templates, request.name, owner)
        made = LabelSet.from_row(row)
    _build_ahead(engine, versions, settings, request)
    return made, is_new


def list_label_sets(database: Database, limit: int, cursor: str | None, reference: str | None = None) -> LabelSetList:
    """Return a page of label sets, newest first; no reference means all."""
    with database.read() as session:
        page = LabelSets(session).newest(limit, cursor, reference=reference)
        return LabelSetList(items=[LabelSetBrief.from_row(row) for row in page], next_cursor=page.next_cursor)


def get_label_set(database: Database, identifier: str) -> LabelSet:
    """Return the label set; `NotFoundError` if there is none."""
    with database.read() as session:
        return LabelSet.from_row(LabelSets(session).get(identifier))


def remove_label_set(database: Database, labels: StoredLabels, identifier: str) -> None:
    """Remove the label set, here at once and in other processes soon; `NotFoundError` if there is none."""
    with database.write() as session:
        LabelSets(session).remove(identifier)
    labels.evict(identifier)


def _build_ahead(engine: Engine, versions: VersionPool, settings: AppSettings, request: LabelSetRequest) -> None:
    """Let the head be built that the first request wants, if the text tower has nothing else to do."""
    model = versions.active
    if model is None:
        return
    templates = request.templates or model.base.default_templates
    if len(request.labels) * len(templates) <= settings.max_prompts:
        engine.heads.build_ahead(model.base, request.labels, templates)
