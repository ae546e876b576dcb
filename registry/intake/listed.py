"""Images whose labels stand in a table beside them: Hugging Face `imagefolder` with metadata, and CSV manifests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

from registry.archives import quote_name, refuse_table
from registry.errors import ArchiveRefusedError
from registry.intake.names import SPLITS, Entry, Parts, are_splits, is_image
from registry.intake.plan import Image, Plan, Upload, make_plan, read_label
from registry.intake.rejects import Rejects
from registry.intake.tables import Row, read_csv, read_json_lines, read_parquet

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_FILE_COLUMNS, _LABEL_COLUMNS = ("file_name", "image_file_name"), ("label",)
_PATH_COLUMNS, _TITLE_COLUMNS = ("filepath",), ("label", "title")


@dataclass(frozen=True)
class _Listing:
    """A row of a table: where it stands, the path that it names, its label and its split as they stand there."""

    where: str
    path: Any
    label: Any
    split: Any = None


class MetadataFolder:
    """Hugging Face's `imagefolder`: `metadata.csv`, `.jsonl` or `.parquet` with the columns `file_name` and `label`.

    Paths are relative to the table's folder. Split folders are recognised as in ImageFolder, by whole names.
    """

    name = "imagefolder-metadata"

    def recognises(self, upload: Upload) -> bool:
        """Return whether there are images and a metadata table."""
        return bool(upload.images) and any(parts[-1] in _METADATA for _, parts in upload.files)

    def read(self, upload: Upload) -> Plan | None:
        """Return the images by their rows; None if no table has both columns."""
        tables = [(entry, parts) for entry, parts in upload.files if parts[-1] in _METADATA]
        num_bytes = sum(entry.num_bytes for entry, _ in tables)
        if num_bytes > upload.limits.max_table_bytes:
            raise refuse_table(
                "metadata", f"its tables have {num_bytes} bytes; {upload.limits.max_table_bytes} is the limit"
            )
        found: list[tuple[Parts, _Listing]] = []
        labelled: list[Entry] = []
        for entry, parts in tables:
            rows = _read_rows(upload, entry, _FILE_COLUMNS, _LABEL_COLUMNS, is_certain=True)
            if rows is not None:
                labelled.append(entry)
                _check_rows(upload, entry, len(found) + len(rows))
                found += [(parts[:-1], row) for row in rows]
        if not labelled:
            return None
        return _match(self.name, upload, found, {entry.name for entry in labelled}, "metadata")


class Manifest:
    """A CSV file as open_clip trains from, with the columns `filepath` and `title` or `label`, and perhaps `split`.

    It lies beside the images or is named by the user; paths are relative to it.
    """

    name = "csv-manifest"

    def recognises(self, upload: Upload) -> bool:
        """Return whether there are images and a CSV file beside them, or the one that the user names."""
        return bool(upload.images) and bool(self._candidates(upload))

    def read(self, upload: Upload) -> Plan | None:
        """Return the images by their rows; None if no CSV file has the columns.

        Args:
            upload: The archive.

        Returns:
            The plan.

        Raises:
            ArchiveRefusedError: The table that the user names is not there or lacks a column.
        """
        for entry, parts in self._candidates(upload):
            rows = _read_rows(upload, entry, _PATH_COLUMNS, _TITLE_COLUMNS, is_certain=upload.manifest is not None)
            if rows is not None:
                return _match(self.name, upload, [(parts[:-1], row) for row in rows], {entry.name}, parts[-1])
        if upload.manifest is None:
            return None
        raise refuse_manifest(upload.manifest)

    def _candidates(self, upload: Upload) -> list[tuple[Entry, Parts]]:
        if upload.manifest is not None:
            wanted = Entry(upload.manifest).parts
            return [(entry, parts) for entry, parts in upload.files if parts == wanted]
        return [
            (entry, parts)
            for entry, parts in upload.files
            if parts[:-1] in ((), upload.root) and parts[-1].lower().endswith((".csv", ".tsv"))
        ]


def refuse_manifest(name: str) -> ArchiveRefusedError:
    """Return the error of a manifest that the user names and that cannot be used."""
    return ArchiveRefusedError(
        "bad_manifest",
        f"There is no CSV file {quote_name(name)} with the columns filepath and title or label, beside images.",
        "Name it by its path in the archive.",
    )


def _read_rows(
    upload: Upload, table: Entry, path_columns: tuple[str, ...], label_columns: tuple[str, ...], *, is_certain: bool
) -> list[_Listing] | None:
    """Return the rows of a table; None if it lacks a column or has no rows.

    A file that only might be the table is also none if its first row cannot be read; any other is then refused.
    """
    rows: list[_Listing] = []
    table_rows = _open_table(upload, table, (*path_columns, *label_columns, "split"))
    try:
        first = next(table_rows, None)
    except ArchiveRefusedError:
        if is_certain:
            raise
        return None
    for number, row in chain([] if first is None else [first], table_rows):
        _check_rows(upload, table, len(rows) + 1)
        path_column = next((column for column in path_columns if column in row), None)
        label_column = next((column for column in label_columns if column in row), None)
        if path_column is None or label_column is None:
            if not rows:
                return None
            rows.append(_Listing(f"{table.name}:{number}", None, None))
            continue
        where = f"{table.name}:{number}"
        rows.append(_Listing(where, row[path_column], row[label_column], row.get("split")))
    return rows or None


def _check_rows(upload: Upload, table: Entry, num_rows: int) -> None:
    if num_rows > upload.limits.max_members:
        raise refuse_table(table.name, f"more than {upload.limits.max_members} rows")


def _open_table(upload: Upload, table: Entry, columns: tuple[str, ...]) -> Iterator[tuple[int, Row]]:
    path = upload.take_out(table.name, upload.limits.max_table_bytes)
    kind = PurePosixPath(table.name).suffix.lower()
    if kind == ".jsonl":
        return read_json_lines(path, table.name, columns)
    if kind == ".parquet":
        return read_parquet(path, table.name, columns, upload.limits)
    return read_csv(path, table.name, columns)


def _match(layout: str, upload: Upload, rows: Iterable[tuple[Parts, _Listing]], tables: set[str], listing: str) -> Plan:
    """Return the plan of rows, each with the folder that its path is relative to, and the files that they name."""
    by_parts = {parts: entry.name for entry, parts in upload.files}
    rejects = Rejects()
    images: dict[str, Image] = {}
    paths: dict[str, Parts] = {}
    for folder, row in rows:
        image, parts, reason = _match_row(folder, row, by_parts)
        if image is None:
            rejects.add(row.where, reason)
        elif image.name in images:
            rejects.add(row.where, f"names {quote_name(image.name)}, which another row has named")
        else:
            images[image.name], paths[image.name] = image, parts
    seen = images.keys() | tables
    for entry, parts in upload.files:
        if entry.name not in seen:
            rejects.add(entry.name, _why_unused(parts, listing))
    return make_plan(layout, upload.container, _with_folder_splits(images, paths), rejects, upload.limits)


def _match_row(folder: Parts, row: _Listing, by_parts: dict[Parts, str]) -> tuple[Image | None, Parts, str]:
    if not isinstance(row.path, str) or not row.path.strip():
        return None, (), "names no file"
    parts = Entry(row.path.strip().replace("\\", "/")).parts
    found = next((each for each in ((*folder, *parts), parts) if each in by_parts), None)
    if found is None:
        return None, (), f"names {quote_name(row.path.strip())}, which is not in the archive"
    label, reason = read_label(row.label)
    if reason is not None:
        return None, found, reason
    split = SPLITS.get(str(row.split).strip().lower()) if row.split not in (None, "") else None
    if row.split not in (None, "") and split is None:
        return None, found, f"names a split {str(row.split)[:50]!r}, which is none of train, validation, test"
    return Image(by_parts[found], split, label), found, ""


def _with_folder_splits(images: dict[str, Image], paths: dict[str, Parts]) -> list[Image]:
    """Return the images with the splits that their folders tell, unless the table tells some."""
    listed = list(images.values())
    if not listed or any(image.split for image in listed):
        return listed
    tops = {parts[0] for parts in paths.values()}
    skip = 1 if len(tops) == 1 and not are_splits(tops) and all(len(parts) > 2 for parts in paths.values()) else 0
    below = {name: parts[skip:] for name, parts in paths.items()}
    if not all(len(parts) > 1 for parts in below.values()) or not are_splits({parts[0] for parts in below.values()}):
        return listed
    return [replace(image, split=SPLITS[below[image.name][0].lower()]) for image in listed]


def _why_unused(parts: Parts, listing: str) -> str:
    return f"not listed in {listing}" if is_image(parts) else "not named like an image"
