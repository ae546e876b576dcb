"""WebDataset: tar files in which `key.jpg` stands beside `key.cls`, `key.json` or `key.txt`.

The upload is one such tar, or an archive that holds some, such as the folder that CLIP_benchmark's export writes:
`{train,test}/{nshards.txt,0.tar,…}` with `classnames.txt` and `zeroshot_classification_templates.txt` beside them. A
label is a number or a name; numbers index `classnames.txt` where it is there, and then that order is the label order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from contract.names import NameRefusedError, check_texts, shorten
from registry.archives import quote_name, refuse_table
from registry.errors import ArchiveRefusedError
from registry.intake.containers import Container, StretchContainer
from registry.intake.known import explain
from registry.intake.names import EXTENSIONS, SPLITS, Entry, Parts, are_splits, is_image
from registry.intake.plan import Image, Plan, Upload, make_plan, read_label
from registry.intake.rejects import Rejects
from registry.intake.shards import Stretches, find_shards

CLASSNAMES, TEMPLATES = "classnames.txt", "zeroshot_classification_templates.txt"
_BESIDE = (CLASSNAMES, TEMPLATES, "nshards.txt", "dataset_type.txt")
_SHARDS = (".tar", ".tar.gz", ".tgz", ".tar.zst")
_LABELS = ("cls", "json", "txt")  # the first that tells a label counts: a `txt` beside them is often a caption
_JSON_KEYS = ("label", "cls", "class", "class_name", "label_name", "category")
_MAX_LABEL_FILE_BYTES = 1 << 16
_MAX_LINES_BYTES = 8 << 20
_MAX_TEMPLATES, _MAX_TEMPLATE_CHARACTERS = 200, 500  # as many and as long as those in a request
_KEY = re.compile(r"((?:.*/)?[^/.]+)\.([^/]*)")  # webdataset's own: the key ends at the first dot of the file's name


@dataclass
class _Sample:
    """Files of one key."""

    split: str | None
    image: str
    labels: dict[str, str]


class WebDataset:
    """WebDataset shards, CLIP_benchmark's folder of them included."""

    name = "webdataset"

    def recognises(self, upload: Upload) -> bool:
        """Return whether this is a shard, or holds shards and no image files."""
        if not upload.images:
            return any(parts[-1].lower().endswith(_SHARDS) for _, parts in upload.files)
        kinds: dict[str, set[str]] = {}
        for _, parts in upload.files:
            key, extension = _key_of("/".join(parts))
            kinds.setdefault(key, set()).add("image" if is_image(parts) and extension else extension)
        pairs = [kind for kind in kinds.values() if "image" in kind]
        if any("cls" in kind for kind in pairs):
            return True
        return any(kind & {"json", "txt"} for kind in pairs) and _without_class_folders(upload)

    def read(self, upload: Upload) -> Plan | None:
        """Return the samples of all shards, in the order of the shards."""
        rejects = Rejects()
        container, files = _open_shards(upload, rejects)
        samples = _group(files, rejects)
        classnames = _tell_apart(_read_lines(upload, CLASSNAMES, upload.limits.max_classes), rejects)
        templates = tuple(line.replace("{c}", "{}") for line in _read_lines(upload, TEMPLATES, _MAX_TEMPLATES))
        _check_templates(templates)
        images = list(_label(container, samples, classnames, rejects))
        if not images and upload.images:
            return None
        if not images and samples and not any(sample.labels for sample in samples):
            _refuse_unlabelled(upload, samples)
        upload.notes.labels_from = "files next to the images"
        return make_plan(
            self.name,
            upload,
            container,
            images,
            rejects,
            declared=[str(index) for index in range(len(classnames))] if classnames else None,
            display_names=[(str(index), name) for index, name in enumerate(classnames)],
            templates=templates,
        )


def _refuse_unlabelled(upload: Upload, samples: Sequence[_Sample]) -> None:
    """Refuse shards in which no image has a label."""
    known = explain(upload)
    if known is not None:
        raise known
    raise ArchiveRefusedError(
        "no_images",
        f"None of the {len(samples):,} images in the shards has a label with its key, such as {samples[0].image!r}.",
        "Add a file KEY.cls for each KEY.jpg; a key ends at the first dot of the file name.",
    )


def _key_of(path: str) -> tuple[str, str]:
    match = _KEY.fullmatch(path)
    return (match[1], match[2].lower()) if match else (path, "")


def _without_class_folders(upload: Upload) -> bool:
    """Return whether the images lie at the top or in split folders, so that no folder can be their class."""
    folders = [parts[len(upload.root) : -1] for _, parts in upload.images]
    return all(not folder for folder in folders) or all(len(each) == 1 and are_splits({each[0]}) for each in folders)


def _open_shards(upload: Upload, rejects: Rejects) -> tuple[Container, list[tuple[Entry, str | None]]]:
    """Return where to read from and the files of all shards with their splits; add what is no shard to `rejects`."""
    if upload.images:
        by_split = _without_class_folders(upload) and all(len(parts) > 1 for _, parts in upload.images)
        visible = [(entry, parts) for entry, parts in upload.files if parts[-1] not in _BESIDE]
        return upload.container, [(entry, _folder_split(parts) if by_split else None) for entry, parts in visible]
    shards = find_shards(upload, _SHARDS)
    stretches = Stretches(upload)
    files = [(file, shard.split) for shard in shards for file in stretches.put_tar(upload, shard.entry)]
    known = {shard.entry.name for shard in shards}
    others = (entry.name for entry, parts in upload.files if entry.name not in known and parts[-1] not in _BESIDE)
    rejects.add_all(others, "is not a shard")
    return StretchContainer(stretches, upload.limits), files


def _folder_split(parts: Parts) -> str | None:
    return next((SPLITS[part.lower()] for part in parts[:-1] if part.lower() in SPLITS), None)


def _group(files: Iterable[tuple[Entry, str | None]], rejects: Rejects) -> list[_Sample]:
    samples: dict[str, _Sample] = {}
    for entry, split in files:
        key, extension = _key_of(entry.name)
        if f".{extension}" in EXTENSIONS:
            sample = samples.setdefault(key, _Sample(split, "", {}))
            if sample.image:
                rejects.add(entry.name, f"is a second image of sample {quote_name(key)}")
            else:
                sample.image = entry.name
        elif extension in _LABELS and entry.num_bytes <= _MAX_LABEL_FILE_BYTES:
            samples.setdefault(key, _Sample(split, "", {})).labels[extension] = entry.name
        elif not any(part.startswith(".") for part in entry.parts):
            reason = "is neither an image nor a label"
            dotted = f"{reason}: its key ends at the first dot, so its extension is {quote_name(extension)}"
            rejects.add(entry.name, dotted if "." in extension else reason)
    for sample in samples.values():
        if not sample.image:
            rejects.add_all(sample.labels.values(), "has no matching image")
    return [sample for sample in samples.values() if sample.image]


def _label(
    container: Container, samples: Sequence[_Sample], classnames: Sequence[str], rejects: Rejects
) -> Iterator[Image]:
    labels, reasons = _read_labels(container, samples)
    indices = {name: str(index) for index, name in enumerate(classnames)}
    for sample in samples:
        label = labels.get(sample.image)
        if label is None:
            rejects.add(sample.image, reasons.get(sample.image, "has no .cls, .json or .txt file with the same key"))
            continue
        if classnames:
            label = str(int(label)) if label.isascii() and label.isdigit() else indices.get(label, "-1")
            if not 0 <= int(label) < len(classnames):
                reason = f"has a label that is not in {CLASSNAMES}, which has {len(classnames)} classes"
                rejects.add(sample.image, reason)
                continue
        yield Image(sample.image, sample.split, label)


def _read_labels(container: Container, samples: Sequence[_Sample]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the label of each image that has one, and why the others have none, by the image's name."""
    labels: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for kind in _LABELS:
        waiting = [each for each in samples if kind in each.labels and each.image not in labels]
        files = container.read([each.labels[kind] for each in waiting])
        for sample, (_, data) in zip(waiting, files, strict=True):
            label, reason = ("", f"has a label file that is {data}") if isinstance(data, str) else _parse(kind, data)
            if reason is None:
                labels[sample.image] = label
            else:
                reasons[sample.image] = f"{reason} in its .{kind}"
    return labels, reasons


def _parse(kind: str, data: bytes) -> tuple[str, str | None]:
    return read_label(_parse_json(data) if kind == "json" else data.decode("utf-8", "replace"))


def _parse_json(data: bytes) -> Any:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return next((value[key] for key in _JSON_KEYS if key in value), None) if isinstance(value, dict) else value


def _read_lines(upload: Upload, name: str, most: int) -> list[str]:
    """Return the lines of a text file beside the shards, at most so many; none if it is not there."""
    found = sorted((parts for _, parts in upload.files if parts[-1] == name), key=lambda parts: (len(parts), parts))
    if not found:
        return []
    entry = next(entry for entry, parts in upload.files if parts == found[0])
    path = upload.take_out(entry.name, _MAX_LINES_BYTES)
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except UnicodeDecodeError as error:
        raise refuse_table(entry.name, str(error)) from error
    if len(lines) > most:
        raise refuse_table(entry.name, f"it has {len(lines)} lines; the limit is {most}")
    if any(not line.strip() for line in lines) and lines != [""]:
        raise refuse_table(entry.name, "it has an empty line, which would shift the classes of later lines")
    return [line.strip() for line in lines if line]


def _tell_apart(names: Sequence[str], rejects: Rejects) -> list[str]:
    """Return the names, a repeated one with its number: ImageNet as CLIP was tested on it has two classes "missile"."""
    seen: set[str] = set()
    apart = []
    for index, name in enumerate(names):
        apart.append(name if name not in seen else f"{name} ({index})")
        if name in seen:
            rejects.add(
                f"{CLASSNAMES}:{index + 1}", f"repeats {shorten(name)!r}, so this class is named {shorten(apart[-1])!r}"
            )
        seen.add(name)
    return apart


def _check_templates(templates: Sequence[str]) -> None:
    bad = next((line for line in templates if "{}" not in line), None)
    if bad is not None:
        what = f"{TEMPLATES} has a line without {{c}}: {shorten(bad)!r}."
        raise ArchiveRefusedError("bad_template", what, "Use {c} as the placeholder of the class.")
    try:
        check_texts(templates, _MAX_TEMPLATE_CHARACTERS)
    except NameRefusedError as error:
        what = f"Invalid line in {TEMPLATES}: {error}."
        raise ArchiveRefusedError("bad_template", what, "Correct it, and upload it again.") from error
