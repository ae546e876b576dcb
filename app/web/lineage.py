"""Drawings over several versions: their accuracies, and what they were made from. Lists beside them say the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from app.versions.schemas import Version
from app.web.charts import draw_line, frame, grid, scale_x, scale_y
from app.web.formats import show
from registry.database import Database
from registry.measurements import Measurements

_COLUMN, _ROW, _BOX_WIDTH, _BOX_HEIGHT = 130, 44, 96, 30
_MOST_TRACKS = 8


@dataclass(frozen=True)
class Track:
    """The accuracies of one data set over versions.

    Attributes:
        name: Of the data set.
        split: Which images were judged.
        points: Version and accuracy, 0 to 1, oldest first.
    """

    name: str
    split: str
    points: Sequence[tuple[int, float]]


def track_accuracies(database: Database, versions: Sequence[Version]) -> Sequence[Track]:
    """Return the accuracies on data sets on which the weights of at least two of the versions were measured.

    Each split has a line of its own.
    """
    by_weights: dict[str, list[int]] = defaultdict(list)
    for version in versions:
        if version.weights_fingerprint is not None:
            by_weights[version.weights_fingerprint].append(version.id)
    with database.read() as session:
        measured = Measurements(session).accuracies(by_weights)
    found: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    names: dict[str, str] = {}
    for each in measured:
        names[each.dataset_id] = each.name
        found[each.dataset_id, each.split] |= dict.fromkeys(by_weights[each.weights_fingerprint], each.accuracy)
    tracks = [Track(names[key[0]], key[1], sorted(points.items())) for key, points in found.items() if len(points) > 1]
    return tracks[:_MOST_TRACKS]


def draw_tracks(tracks: Sequence[Track]) -> Markup | None:
    """Return accuracies over versions, with equal distances between versions; None: there is nothing to draw."""
    ids = sorted({version for track in tracks for version, _ in track.points})
    if not ids:
        return None
    places = {version: index / (len(ids) - 1) for index, version in enumerate(ids)}
    every = 1 + len(ids) // 12
    parts = [grid([(places[version], str(version)) for version in ids[::every]])]
    for number, track in enumerate(tracks):
        points = [(scale_x(places[version]), scale_y(accuracy)) for version, accuracy in track.points]
        parts.append(draw_line(number, "patching", track.name, points))
    return frame("".join(parts), f"Accuracies of {len(tracks)} data sets over versions {ids[0]} to {ids[-1]}")


def draw_lineage(version_id: int, parents: Mapping[int, Sequence[int]], base: str) -> Markup | None:
    """Return a graph from the base on the left to the versions that were made from others; None: it has one version.

    Args:
        version_id: The version that is marked.
        parents: Parents by version.
        base: Name of the base model.
    """
    if len(parents) < 2:
        return None
    columns: dict[int, list[int]] = defaultdict(list)
    depths: dict[int, int] = {}
    for each in sorted(parents):  # parents are older than what is made from them
        depths[each] = 1 + max((depths[parent] for parent in parents[each] if parent in depths), default=0)
        columns[depths[each]].append(each)
    at = {each: (column, row) for column, ids in columns.items() for row, each in enumerate(ids)}
    rows = max(map(len, columns.values()))
    boxes = [_box(0, 0, base, is_marked=False)]
    edges = []
    for each, (column, row) in at.items():
        boxes.append(_box(column, row, f"version {each}", is_marked=each == version_id))
        sources = [at[parent] for parent in parents[each] if parent in at] or [(0, 0)]
        edges += [_edge(source, (column, row)) for source in sources]
    width, height = (max(columns) + 1) * _COLUMN, rows * _ROW + 12
    label = f"Which versions version {version_id} was made from, and which were made from it"
    return Markup(
        f'<svg class="chart lineage" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{label}">{"".join(edges + boxes)}</svg>'
    )


def _box(column: int, row: int, text: str, *, is_marked: bool) -> str:
    x, y = 6 + column * _COLUMN, 6 + row * _ROW
    shown = text if len(text) <= 14 else text[:13] + "…"
    return (
        f'<rect class="box{" marked" if is_marked else ""}" x="{x}" y="{y}" width="{_BOX_WIDTH}" '
        f'height="{_BOX_HEIGHT}" rx="6"/>'
        f'<text x="{x + _BOX_WIDTH / 2:g}" y="{y + _BOX_HEIGHT / 2:g}" dy="4" text-anchor="middle">'
        f"{escape(show(shown))}</text>"
    )


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = 6 + start[0] * _COLUMN + _BOX_WIDTH, 6 + start[1] * _ROW + _BOX_HEIGHT / 2
    x2, y2 = 6 + end[0] * _COLUMN, 6 + end[1] * _ROW + _BOX_HEIGHT / 2
    return f'<line class="edge" x1="{x1}" y1="{y1:g}" x2="{x2}" y2="{y2:g}"/>'
