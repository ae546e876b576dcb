"""Images with labels in tables: Hugging Face `imagefolder` with metadata, and CSV manifests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from registry.archives import quote_name, refuse_table
from registry.errors import ArchiveRefusedError
from registry.intake.annotations import CONVERT_BOXES, several_labels
from registry.intake.choices import IGNORE
from registry.intake.columns import Columns, UnusableTableError, choose_columns
from registry.intake.levels import UnclassedError, arrange
from registry.intake.matching import FileIndex
from registry.intake.names import SPLITS, Entry, Parts, find_split_word, splits_of_files, splits_of_folders
from registry.intake.notes import Notes, name_some
from registry.intake.plan import Image, Plan, Upload, make_plan, read_label
from registry.intake.rejects import Rejects
from registry.intake.tables import (
    CsvForm,
    Row,
    inspect_csv,
    json_columns,
    parquet_columns,
    read_csv,
    read_json,
    read_json_lines,
    read_parquet,
)

_EXTENSIONS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
_METADATA = tuple(f"metadata{extension}" for extension in _EXTENSIONS)
_MAX_JSON_TABLES, _MAX_TABLES = 20, 1000
_FIRST_ROWS = 20
_SUBMISSION = "submission"
_LEAST_LISTED = 0.5
_MOST_CONFLICTS = 0.05


@dataclass(frozen=True)
class _Table:
    """A table that labels images: where it is, a copy on disk, and how it is read."""

    entry: Entry
    parts: Parts
    path: Path
    columns: Columns
    form: CsvForm | None
    split: str | None = None

    def rows(self, upload: Upload) -> Iterator[tuple[int, Row]]:
        """Yield all rows, with their numbers."""
        return _read(self.path, self.entry, self.columns.all, self.form, upload)


class Listed:
    """Images with tables: one reader for `imagefolder` metadata, one for all other tables.

    Args:
        is_metadata: Whether it reads tables called `metadata.…`, or the others.
    """

    def __init__(self, name: str, *, is_metadata: bool) -> None:
        self.name = name
        self._is_metadata = is_metadata

    def recognises(self, upload: Upload) -> bool:
        """Return whether there are images and a table, or the one that the user names."""
        return bool(self._candidates(upload)) and bool(upload.images)

    def read(self, upload: Upload) -> Plan | None:
        """Return the images by the rows of all tables that label them; None if no table does.

        Raises:
            ArchiveRefusedError: The table chosen by the user cannot be used, a metadata table cannot be read, or an
                image has several labels.
        """
        candidates = self._candidates(upload)
        _check_bytes(upload, candidates)
        index = FileIndex((parts for _, parts in upload.files), [parts for _, parts in upload.images])
        tables = [table for entry, parts in candidates if (table := self._open(upload, entry, parts, index))]
        if not tables:
            if upload.choices.manifest is not None:
                raise refuse_manifest(upload.choices.manifest, upload.unused_tables)
            return None
        return _Reading(self.name, upload, _with_splits(upload, tables), index).plan()

    def _candidates(self, upload: Upload) -> list[tuple[Entry, Parts]]:
        if upload.choices.manifest is not None:
            wanted = Entry(upload.choices.manifest).parts
            return [] if self._is_metadata else [each for each in upload.files if each[1] == wanted]
        found = [
            (entry, parts)
            for entry, parts in upload.files
            if parts[-1].lower().endswith(_EXTENSIONS)
            and (parts[-1].lower() in _METADATA) == self._is_metadata
            and upload.exports.get(entry.name) is None  # one that its own reader passed over
        ]
        documents = [each for each in found if each[1][-1].lower().endswith(".json")]
        if len(documents) > _MAX_JSON_TABLES:
            found = [each for each in found if each not in documents]
        return found[:_MAX_TABLES]

    def _open(self, upload: Upload, entry: Entry, parts: Parts, index: FileIndex) -> _Table | None:
        """Return a table if it labels images; otherwise record why not."""
        if _SUBMISSION in parts[-1].lower() and upload.choices.manifest is None:
            upload.unused_tables[entry.name] = f"{quote_name(entry.name)} is a template for predictions"
            return None
        try:
            path = upload.take_out(entry.name, upload.limits.max_table_bytes)
            header, form = _inspect(path, entry, upload)
            rows = [row for _, row in islice(_read(path, entry, header, form, upload), _FIRST_ROWS)]
            has_header = form is None or form.has_header
            columns = choose_columns(header, rows, index.names_file, upload.choices, has_header=has_header)
        except UnusableTableError as error:
            upload.unused_tables[entry.name] = f"{quote_name(entry.name)} {error}"
            if error.is_boxes:
                detail = f"{quote_name(entry.name)} {error}."
                upload.recognised.append(ArchiveRefusedError("needs_conversion", detail, CONVERT_BOXES))
            return None
        except ArchiveRefusedError as error:
            if self._is_metadata or upload.choices.manifest is not None:
                raise
            if error.code == "needs_conversion":
                upload.recognised.append(error)
            upload.unused_tables[entry.name] = error.detail.rstrip(".")
            return None
        if form is not None and not form.is_sure:
            detail = f"{entry.name} is not UTF-8 and was read as Windows-1252 (Latin-1). Check the class names."
            upload.notes.warn("unsure_encoding", detail, entry.name)
        return _Table(entry, parts, path, columns, form)


def refuse_manifest(name: str, unused: dict[str, str] | None = None) -> ArchiveRefusedError:
    """Return the error of a table that the user chose and that cannot be used."""
    why = next(iter((unused or {}).values()), f"There is no table {quote_name(name)} with images")
    return ArchiveRefusedError(
        "bad_manifest",
        f"{why}.",
        "Use its path in the archive, and specify its columns with `path_column` and `label_column`.",
    )


def _check_bytes(upload: Upload, tables: list[tuple[Entry, Parts]]) -> None:
    num_bytes = sum(entry.num_bytes for entry, _ in tables)
    if num_bytes > upload.limits.max_table_bytes:
        detail = f"its tables have {num_bytes} bytes; the limit is {upload.limits.max_table_bytes}"
        raise refuse_table(tables[0][1][-1], detail)


def _inspect(path: Path, entry: Entry, upload: Upload) -> tuple[tuple[str, ...], CsvForm | None]:
    """Return the columns of a table, and its form if it is a CSV."""
    kind = PurePosixPath(entry.name.lower()).suffix
    if kind in (".jsonl", ".ndjson", ".json"):
        return json_columns(path, entry.name, is_lines=kind != ".json"), None
    if kind == ".parquet":
        return parquet_columns(path, entry.name, upload.limits), None
    form = inspect_csv(path, entry.name)
    return form.header, form


def _read(
    path: Path, entry: Entry, columns: tuple[str, ...], form: CsvForm | None, upload: Upload
) -> Iterator[tuple[int, Row]]:
    kind = PurePosixPath(entry.name.lower()).suffix
    if kind == ".json":
        return read_json(path, entry.name, columns)
    if kind in (".jsonl", ".ndjson"):
        return read_json_lines(path, entry.name, columns)
    if kind == ".parquet":
        return read_parquet(path, entry.name, columns, upload.limits)
    return read_csv(path, entry.name, columns, form)


def _with_splits(upload: Upload, tables: list[_Table]) -> list[_Table]:
    """Return the tables with the splits in their names, if there are several."""
    splits = table_splits(upload, [table.parts for table in tables])
    return [replace(table, split=split) for table, split in zip(tables, splits, strict=True) if split != IGNORE]


def table_splits(upload: Upload, paths: list[Parts]) -> list[str | None]:
    """Return the split in the name of each table, or `ignore`; None for all unless they name several."""
    if upload.choices.split_of is not None:
        return [upload.choices.split_by_name(parts) for parts in paths]
    splits, _ = splits_of_files(paths)
    return splits if len(set(splits) - {None}) > 1 else [None] * len(paths)


class _Reading:
    """One pass over the rows of all tables."""

    def __init__(self, layout: str, upload: Upload, tables: list[_Table], index: FileIndex) -> None:
        self._layout = layout
        self._upload = upload
        self._tables = tables
        self._index = index
        self._names = {parts: entry.name for entry, parts in upload.files}
        self._images: dict[str, Image] = {}
        self._paths: dict[str, Parts] = {}
        self._rejects = Rejects()
        self._num_rows = 0
        self._conflicts: list[str] = []

    def plan(self) -> Plan:
        """Return the rows' content."""
        for table in self._tables:
            for number, row in table.rows(self._upload):
                self._count_row(table)
                self._take(table, f"{table.entry.name}:{number}", row)
        self._refuse_several_labels()
        tables = [table.entry.name for table in self._tables]
        refuse_few_listed(self._upload, self._layout, len(self._images), tables, self._rejects)
        seen = self._images.keys() | {table.entry.name for table in self._tables}
        listing = (
            "metadata" if self._layout == "imagefolder-metadata" else name_some(t.entry.name for t in self._tables)
        )
        for entry, _ in self._upload.files:
            if entry.name not in seen:
                is_image = entry.name in self._upload.image_names
                self._rejects.add(entry.name, f"not listed in {listing}" if is_image else "not an image")
        notes = self._upload.notes
        notes.tables = tables[:20]
        first = self._tables[0].columns
        notes.labels_from = f"column {first.label!r}" if first.label else f"{len(first.one_hot)} columns of 0 and 1"
        images = with_folder_splits(self._upload, list(self._images.values()), self._paths)
        return make_plan(self._layout, self._upload, self._upload.container, images, self._rejects)

    def _count_row(self, table: _Table) -> None:
        self._num_rows += 1
        if self._num_rows > self._upload.limits.max_members:
            raise refuse_table(table.entry.name, f"more than {self._upload.limits.max_members} rows")

    def _take(self, table: _Table, where: str, row: Row) -> None:
        """Add the image of a row, or reject the row or the image."""
        columns = table.columns
        try:
            split = find_split(row.get(columns.split), table.split) if columns.split else table.split
            word = find_split_word(table.parts[-1].rpartition(".")[0])
            hint = split or (None if word is None else word.split)
            parts = self._index.find(table.parts[:-1], row.get(columns.path), hint)
        except LookupError as error:
            self._rejects.add(where, str(error.args[0]))
            return
        label, reason = read_label(row.get(columns.label)) if columns.label else _hot(columns, row)
        if reason is not None:
            self._rejects.add(where, reason)
            return
        name = self._names[parts]
        known = self._images.get(name)
        if known is not None:
            if known.label != label:
                self._conflicts.append(where)
            elif known.split is None and split is not None:
                self._images[name] = replace(known, split=split)
                return
            self._rejects.add(where, f"lists {quote_name(name)}, which another row already lists")
            return
        self._images[name], self._paths[name] = Image(name, split, label), parts

    def _refuse_several_labels(self) -> None:
        if len(self._conflicts) > max(2, _MOST_CONFLICTS * len(self._images)):
            rows = name_some(self._conflicts)
            raise several_labels(f"Rows {rows} list images again with a different class")
        mixed = several_in_a_cell({image.label for image in self._images.values()})
        if mixed:
            raise several_labels(
                f"Column {self._tables[0].columns.label!r} contains several classes in one cell ({mixed!r})"
            )


def have_class_folders(upload: Upload) -> bool:
    """Return whether the folders of the images name classes."""
    try:
        arrange(upload.image_folders, upload.choices, upload.base, Notes())
    except (UnclassedError, ArchiveRefusedError):
        return False
    return True


def refuse_few_listed(upload: Upload, layout: str, num_listed: int, tables: list[str], rejects: Rejects) -> None:
    """Refuse tables that list only some of many images, if all are in class folders."""
    num_images = len(upload.images)
    if num_listed > _LEAST_LISTED * num_images:
        return
    if upload.choices.layout is not None or upload.choices.manifest is not None or not have_class_folders(upload):
        return
    raise ArchiveRefusedError(
        "ambiguous_layout",
        f"{name_some(tables)} lists only {num_listed:,} of {num_images:,} images ({rejects.tell(1)}), all in class "
        "folders.",
        f"Upload it again with layout={layout} to read the table, or layout=imagefolder to read the folders.",
    )


def with_folder_splits(upload: Upload, listed: list[Image], paths: Mapping[str, Parts]) -> list[Image]:
    """Return the images with the splits of their folders, unless the tables name splits.

    Args:
        paths: Path of each image, by its name.
    """
    if not listed or any(image.split for image in listed):
        return listed
    choices = upload.choices
    if choices.split_of is not None:
        splits = {image.name: choices.split_by_name(paths[image.name][:-1]) for image in listed}
        return [replace(each, split=splits[each.name]) for each in listed if splits[each.name] != IGNORE]
    found = splits_of_paths([paths[image.name] for image in listed])
    if found is None:
        return listed
    upload.notes.split_folders.update(found[1])
    return [replace(image, split=split) for image, split in zip(listed, found[0], strict=True)]


def splits_of_paths(paths: list[Parts]) -> tuple[list[str], dict[str, str]] | None:
    """Return the split of each path, by the first level of folders at which all names are splits; None without one.

    Returns:
        Splits in the order of the paths, and the split of each folder.
    """
    for level in range(min((len(parts) for parts in paths), default=1) - 1):
        names = {parts[level] for parts in paths}
        found = splits_of_folders(names)
        if found is not None and (len(names) > 1 or names.pop().lower() in SPLITS):
            return [found[parts[level]] for parts in paths], dict(found)
    return None


def several_in_a_cell(labels: set[str]) -> str | None:
    """Return a label that joins others, as in `cat|dog` beside `cat` and `dog`; None if there is none."""
    for separator in "|;,":
        joined = [label for label in labels if separator in label]
        tokens = [token.strip() for label in joined for token in label.split(separator)]
        if len(joined) > 1 and len(set(tokens)) < len(tokens) and sum(token in labels for token in tokens) > 1:
            return min(joined)
    return None


def find_split(value: Any, otherwise: str | None) -> str | None:
    """Return the split that a cell names; `otherwise` if it is empty. Raises `LookupError` if it is no split."""
    if value in (None, ""):
        return otherwise
    split = SPLITS.get(str(value).strip().lower())
    if split is None:
        raise LookupError(f"has the split {str(value)[:50]!r}, which is not train, validation or test")
    return split


def _hot(columns: Columns, row: Row) -> tuple[str, str | None]:
    """Return the class of a row of zeros and a one."""
    hot = [name for name in columns.one_hot if str(row.get(name)).strip().lower() in ("1", "1.0", "true")]
    if len(hot) == 1:
        return read_label(hot[0])
    if not hot:
        return "", "has no label"
    raise several_labels(f"A row has 1 in {len(hot)} columns ({name_some(hot)})")
