"""The layouts of exports: which files of an upload are exports, and the images that they label."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from registry.archives import quote_name, refuse_table
from registry.errors import ArchiveRefusedError
from registry.intake.annotations import CONVERT_BOXES, several_labels
from registry.intake.choices import IGNORE, refuse_option
from registry.intake.exports import coco, custom_vision, fiftyone, ground_truth, label_studio, roboflow, vertex_ai
from registry.intake.exports.rows import Document, ExportFormat, Row
from registry.intake.exports.uris import paths_of
from registry.intake.listed import find_split, have_class_folders, refuse_few_listed, table_splits, with_folder_splits
from registry.intake.matching import FileIndex, count_common
from registry.intake.names import Entry, Parts
from registry.intake.notes import name_some
from registry.intake.plan import Image, Plan, Upload, make_plan, read_label
from registry.intake.rejects import Rejects
from registry.intake.tables import first_line, inspect_csv, load_json

FORMATS: tuple[ExportFormat, ...] = (
    custom_vision.CUSTOM_VISION,
    ground_truth.MANIFEST,
    ground_truth.ENTRIES,
    vertex_ai.LINES,
    vertex_ai.TABLE,
    roboflow.ROBOFLOW,
    label_studio.TASKS,
    label_studio.LIST,
    label_studio.TABLE,
    fiftyone.FIFTYONE,
    coco.COCO,
)
_OBJECTS = (".json", ".jsonl", ".ndjson", ".manifest")
_TABLES = (".csv", ".tsv")
_MAX_DOCUMENTS = 1000
_QUESTIONS = ("choice", "choices", "label", "class", "category", "classification")
"""Questions that are taken for the classes where an export has several."""


class Exported:
    """Images with the documents of one service or tool.

    Args:
        name: Of the formats.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._formats = [each for each in FORMATS if each.name == name]

    def recognises(self, upload: Upload) -> bool:
        """Return whether there are images and a file that may be an export, or the one that the user names."""
        return bool(upload.images) and bool(_candidates(upload))

    def read(self, upload: Upload) -> Plan | None:
        """Return the images that the documents of this format label; None if there is no such document.

        Raises:
            ArchiveRefusedError: Documents name a file of which there are several, or most images have several labels.
        """
        found = find_documents(upload)
        documents = [(kind, each) for kind, each in found if kind.name == self.name]
        if not documents:
            return None
        return _Reading(self.name, upload, documents).plan()


LAYOUT_NAMES = tuple(dict.fromkeys(each.name for each in FORMATS))
EXPORTS = tuple(map(Exported, LAYOUT_NAMES))
"""One layout for each name, in the order in which they are tried."""


def find_documents(upload: Upload) -> list[tuple[ExportFormat, Document]]:
    """Return the documents of an upload that have a known format; each is looked at once in an upload's life."""
    candidates = _candidates(upload)
    if sum(entry.num_bytes for entry, _ in candidates) > upload.limits.max_table_bytes:
        return []  # the readers of tables refuse them, or pass over them
    for entry, parts in candidates:
        if entry.name not in upload.exports:
            upload.exports[entry.name] = _look(upload, entry, parts)
    looked = (upload.exports[entry.name] for entry, _ in candidates)
    return [each for each in looked if each is not None]


def _candidates(upload: Upload) -> list[tuple[Entry, Parts]]:
    wanted = None if upload.choices.manifest is None else Entry(upload.choices.manifest).parts
    found = [
        (entry, parts)
        for entry, parts in upload.files
        if parts[-1].lower().endswith((*_OBJECTS, *_TABLES)) and wanted in (None, parts)
    ]
    return found[:_MAX_DOCUMENTS]


def _look(upload: Upload, entry: Entry, parts: Parts) -> tuple[ExportFormat, Document] | None:
    """Return a file and its format; None if it is no export."""
    try:
        document = Document(entry, parts, upload.take_out(entry.name, upload.limits.max_table_bytes))
        if PurePosixPath(parts[-1].lower()).suffix in _TABLES:
            form = inspect_csv(document.path, entry.name)
            kind = next((each for each in FORMATS if each.is_table(parts[-1].lower(), form)), None)
            document = replace(document, form=form)
        else:
            kind = _kind_of_objects(document)
    except ArchiveRefusedError:  # no JSON, or no CSV: the readers of tables tell why, if it matters
        return None
    return None if kind is None else (kind, document)


def _kind_of_objects(document: Document) -> ExportFormat | None:
    try:
        line = json.loads(first_line(document.path, document.entry.name))
    except (ValueError, RecursionError):
        line = None
    found = next((each for each in FORMATS if each.of_lines and each.is_object(line)), None)
    if found is not None or not document.parts[-1].lower().endswith(".json"):
        return found
    data = load_json(document.path, document.entry.name)
    return next((each for each in FORMATS if not each.of_lines and each.is_object(data)), None)


@dataclass(frozen=True, slots=True)
class _Found:
    """A row with one class, and its file: how the row names it, and how many last parts of the paths agree."""

    where: str
    uri: str
    num_common: int
    split: str | None
    label: str


class _Reading:
    """One pass over the documents of a format."""

    def __init__(self, layout: str, upload: Upload, documents: Sequence[tuple[ExportFormat, Document]]) -> None:
        self._layout = layout
        self._upload = upload
        self._documents = documents
        self._index = FileIndex((parts for _, parts in upload.files), [parts for _, parts in upload.images])
        self._names = {parts: entry.name for entry, parts in upload.files}
        self._rejects = Rejects()
        self._by_file: dict[Parts, list[_Found]] = defaultdict(list)
        self._num_regions: Counter[str] = Counter()
        self._several: list[str] = []

    def plan(self) -> Plan | None:
        """Return the images; None if the documents have only regions, or name no file beside class folders."""
        rows = list(self._read())
        question = self._choose_question(rows)
        for document, split, row in rows:
            self._take(document, split, row, question)
        images = self._settle()
        if not images and self._is_passed_over():
            return None
        if len(self._several) > len(images):
            raise several_labels(f"{len(self._several):,} images ({name_some(self._several)})")
        self._reject_others(images)
        paths = {self._names[parts]: parts for parts in self._by_file}
        documents = [document.entry.name for _, document in self._documents]
        refuse_few_listed(self._upload, self._layout, len(images), documents, self._rejects)
        notes = self._upload.notes
        notes.tables = documents[:20]
        notes.labels_from = self._documents[0][0].what
        if self._several:
            detail = f"{len(self._several):,} images have several labels and are left out: {name_some(self._several)}."
            notes.warn("several_labels", detail)
        kept = with_folder_splits(self._upload, images, paths)
        return make_plan(self._layout, self._upload, self._upload.container, kept, self._rejects)

    def _read(self) -> Iterator[tuple[Document, str | None, Row]]:
        splits = table_splits(self._upload, [document.parts for _, document in self._documents])
        num_rows = 0
        for (kind, document), split in zip(self._documents, splits, strict=True):
            if split == IGNORE:
                continue
            for row in kind.rows(document):
                num_rows += 1
                if num_rows > self._upload.limits.max_members:
                    raise refuse_table(document.entry.name, f"more than {self._upload.limits.max_members} rows")
                self._num_regions[document.entry.name] += row.has_regions
                yield document, split, row

    def _choose_question(self, rows: Sequence[tuple[Document, str | None, Row]]) -> str | None:
        """Return the question whose answers are the classes; None: all of them.

        Raises:
            ArchiveRefusedError: There are several, and none is chosen by name or by `label_column`.
        """
        asked = sorted({question for _, _, row in rows for question, _ in row.answers})
        chosen = self._upload.choices.label_column
        if chosen is not None:
            found = next((each for each in asked if each.casefold() == chosen.strip().casefold()), None)
            if found is None:
                raise refuse_option("label_column", chosen, "no answer has this name", f"There are {name_some(asked)}.")
            return found
        if len(asked) < 2 or not self._documents[0][0].has_questions:
            return None
        usual = [each for each in asked if each.casefold() in _QUESTIONS]
        if len(usual) != 1:
            raise ArchiveRefusedError(
                "multi_label",
                f"Images have answers to several questions ({name_some(asked, 8)}).",
                "Choose the one whose answers are the classes with `label_column`.",
            )
        return usual[0]

    def _take(self, document: Document, split: str | None, row: Row, question: str | None) -> None:
        """Add the image of a row, or reject the row."""
        where = f"{document.entry.name}:{row.number}"
        answers = {str(label): label for asked, label in row.answers if question in (None, asked)}
        try:
            split = find_split(row.split, split)
            parts, uri, num_common = self._find(document, row, split)
        except LookupError as error:
            self._rejects.add(where, str(error.args[0]))
            return
        if len(answers) > 1:
            self._several.append(self._names[parts])
            self._rejects.add(where, f"lists {len(answers)} labels ({name_some(answers)})")
            return
        if not answers:
            only = "has only boxes or other regions, no class of the whole image"
            self._rejects.add(where, only if row.has_regions else row.reason)
            return
        label, reason = read_label(next(iter(answers.values())))
        if reason is not None:
            self._rejects.add(where, reason)
            return
        self._by_file[parts].append(_Found(where, uri, num_common, split, label))

    def _find(self, document: Document, row: Row, split: str | None) -> tuple[Parts, str, int]:
        """Return the file of a row, how the row names it, and how many of their last parts agree.

        Raises:
            LookupError: No file has such a name.
            ArchiveRefusedError: Several files match equally well.
        """
        for uri in (path for given in row.paths for path in paths_of(given)):
            found = self._index.matches(document.parts[:-1], uri, split, is_elsewhere=True)
            if len(found) > 1:
                names = name_some(sorted("/".join(each) for each in found))
                raise ArchiveRefusedError(
                    "bad_table",
                    f"{quote_name(document.entry.name)} lists {quote_name(uri)}, which matches {len(found)} files of "
                    f"the archive: {names}.",
                    "Keep the folders of the paths in the archive, or give the files different names.",
                )
            if found:
                return found[0], uri, count_common(found[0], Entry(uri).parts)
        raise LookupError(
            f"lists {quote_name(row.paths[0])}, which is not in the archive" if row.paths else "lists no file"
        )

    def _settle(self) -> list[Image]:
        """Return one image for each file, from the row that names it best."""
        images = []
        for parts, found in self._by_file.items():
            name = self._names[parts]
            best = max(each.num_common for each in found)
            rows = [each for each in found if each.num_common == best]
            self._rejects.add_all((each.where for each in found if each.num_common < best), "lists a missing file")
            uris = sorted({each.uri for each in rows})
            if len(uris) > 1:
                raise ArchiveRefusedError(
                    "bad_table",
                    f"{name_some(uris)} all match {quote_name(name)} of the archive.",
                    "Keep the folders of the paths in the archive, or give the files different names.",
                )
            labels = sorted({each.label for each in rows})
            if len(labels) > 1:
                self._several.append(name)
                self._rejects.add(rows[0].where, f"lists {quote_name(name)}, which has the labels {name_some(labels)}")
                continue
            again = f"lists {quote_name(name)}, which another row already lists"
            self._rejects.add_all((each.where for each in rows[1:]), again)
            split = next((each.split for each in rows if each.split is not None), None)
            images.append(Image(name, split, labels[0]))
        return images

    def _is_passed_over(self) -> bool:
        """Return whether another layout may read the upload: the documents label no image, and folders may."""
        kind, document = self._documents[0]
        name = document.entry.name
        if sum(self._num_regions.values()):
            detail = f"{quote_name(name)} contains {kind.what} with boxes or other regions and no class of an image"
            advice = kind.advice if kind.advice == CONVERT_BOXES else f"{kind.advice} {CONVERT_BOXES}"
            self._upload.recognised.append(ArchiveRefusedError("needs_conversion", f"{detail}.", advice))
        elif self._several or self._upload.choices.layout is not None or not have_class_folders(self._upload):
            return False
        else:
            detail = f"{quote_name(name)} contains {kind.what} that labels none of the images"
        self._upload.unused_tables[name] = detail
        return True

    def _reject_others(self, images: Sequence[Image]) -> None:
        seen = {image.name for image in images} | {document.entry.name for _, document in self._documents}
        seen |= set(self._several)
        for entry, _ in self._upload.files:
            if entry.name not in seen:
                is_image = entry.name in self._upload.image_names
                self._rejects.add(entry.name, "not listed in the export" if is_image else "not an image")
