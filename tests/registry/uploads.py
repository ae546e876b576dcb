"""Uploads in every layout, made by the tools that people make them with where those are installed."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp

import zstandard

from registry.archives import ArchiveLimits
from registry.intake.choices import Choices
from registry.intake.plan import Plan
from registry.intake.reading import read_upload
from tests.builders import WORDS, digit_pngs, write_zip

ZERO, ONE = digit_pngs(0), digit_pngs(1)
FOLDERS = {
    "train/zero/0.png": ZERO[0],
    "train/one/0.png": ONE[0],
    "test/zero/0.png": ZERO[1],
    "test/one/0.png": ONE[1],
}
CSV = "file_name,label\ntrain/a.png,zero\ntrain/b.png,one\ntest/a.png,zero\n"
LISTED = {"train/a.png": ZERO[0], "train/b.png": ONE[0], "test/a.png": ZERO[1]}
KINDS = ("zip", "tar", "tar.gz", "tar.zst", "tar.xz", "tar.bz2")


def tar_bytes(members: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def pack(path: Path, members: Mapping[str, bytes], kind: str = "zip") -> Path:
    """Write an archive; its name says nothing of its kind."""
    if kind == "zip":
        return write_zip(path, members)
    data = tar_bytes(members)
    squeeze = {
        "tar": bytes,
        "tar.gz": gzip.compress,
        "tar.zst": zstandard.compress,
        "tar.xz": lzma.compress,
        "tar.bz2": bz2.compress,
    }[kind]
    path.write_bytes(squeeze(data))
    return path


def read(
    path: Path, manifest: str | None = None, limits: ArchiveLimits | None = None, choices: Choices | None = None
) -> Plan:
    """The plan, its scratch folder beside the upload."""
    choices = choices or Choices(manifest=manifest)
    return read_upload(path, Path(mkdtemp(dir=path.parent)), choices, limits)


def contents(plan: Plan) -> list[tuple[str | None, str, bytes | str]]:
    """Split, class and bytes of every image, in order, whatever it is called."""
    data = [each for _, each in plan.container.read(image.name for image in plan.images)]
    return [(image.split, image.label, each) for image, each in zip(plan.images, data, strict=True)]


def labels(plan: Plan) -> list[tuple[str, str | None, str]]:
    return [(image.name, image.split, image.label) for image in plan.images]


def rejected(plan: Plan) -> dict[str, str]:
    return {entry["file"]: entry["reason"] for entry in plan.rejected}


def hugging_face_parquet(path: Path, digits: list[int], start: int = 0) -> Path:
    """A Parquet file that `datasets` writes, with an Image and a ClassLabel column."""
    import datasets

    names = list(WORDS)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    images = [{"bytes": digit_pngs(digit)[start + row], "path": f"{row}.png"} for row, digit in enumerate(digits)]
    datasets.Dataset.from_dict({"image": images, "label": digits}, features=features).to_parquet(path)
    return path


def webdataset_shard(path: Path, digits: list[int], start: int = 0, label: str = "cls") -> Path:
    """A tar shard that `webdataset` writes, with samples `s0000000.png` and their labels."""
    import webdataset

    write = {
        "cls": lambda digit: digit,
        "txt": lambda digit: WORDS[digit],
        "json": lambda digit: json.dumps({"label": WORDS[digit], "width": 8}).encode(),
    }[label]
    with webdataset.TarWriter(str(path)) as writer:
        for row, digit in enumerate(digits):
            sample = {"__key__": f"s{row:07}", "png": digit_pngs(digit)[start + row], label: write(digit)}
            writer.write(sample)
    return path
