"""Shards within an upload: Parquet and tar files, taken out one by one and read as if they were one archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from registry.archives import refuse_bomb, refuse_table
from registry.errors import ArchiveRefusedError
from registry.intake.choices import IGNORE
from registry.intake.containers import Stretch, open_tar
from registry.intake.formats import COMPRESSED, Format, detect_format, unpack_tar
from registry.intake.names import Entry, Parts, splits_of_files
from registry.intake.notes import name_some
from registry.intake.plan import Upload


@dataclass(frozen=True)
class Shard:
    """A shard of an upload and the split in its name."""

    entry: Entry
    split: str | None


def find_shards(upload: Upload, suffixes: tuple[str, ...]) -> list[Shard]:
    """Return the shards of an upload with their splits, in the order of their names.

    Raises:
        ArchiveRefusedError: Some names have a split, and others none.
    """
    found = [(entry, parts) for entry, parts in upload.files if parts[-1].lower().endswith(suffixes)]
    paths = [parts for _, parts in found]
    if upload.choices.split_of is None:
        splits, untold = splits_of_files(paths)
        if untold:
            raise _mixed(untold)
    else:
        splits = [upload.choices.split_by_name(parts) for parts in paths]
    return [Shard(entry, split) for (entry, _), split in zip(found, splits, strict=True) if split != IGNORE]


def _mixed(untold: Sequence[Parts]) -> ArchiveRefusedError:
    return ArchiveRefusedError(
        "ambiguous_layout",
        f"Some files are named like splits, but {name_some('/'.join(parts) for parts in untold)} are not.",
        'Specify the splits with `split_of`, a JSON object such as {"train": "train", "extra": "ignore"}, or {} if '
        "there are no splits.",
    )


class Stretches(dict[str, Stretch]):
    """Files by name, under the budgets of the upload as a whole."""

    def __init__(self, upload: Upload) -> None:
        super().__init__()
        self._limits = upload.limits
        self._num_bytes = 0
        self._packed_bytes = 0
        self._unpacked_bytes = 0

    def take_out(self, upload: Upload, shard: Entry) -> Path:
        """Return a copy of a shard on disk; its size is what its files' is measured by."""
        path = upload.take_out(shard.name, self._limits.max_shard_bytes)
        self._packed_bytes += path.stat().st_size
        return path

    def _unpack(self, path: Path, kind: Format) -> Path:
        """Return the tar archive within a compressed shard; all of them together keep to the budget."""
        target = path.with_suffix(".unpacked")
        left = self._limits.max_total_bytes - self._unpacked_bytes
        unpack_tar(path, kind, target, replace(self._limits, max_total_bytes=left))
        path.unlink()
        self._unpacked_bytes += target.stat().st_size
        return target

    def put(self, name: str, stretch: Stretch) -> None:
        """Add a file.

        Raises:
            ArchiveRefusedError: There are too many files, or their total size is too large.
        """
        self._num_bytes += stretch.num_bytes
        if self._num_bytes > self._limits.max_total_bytes:
            raise refuse_bomb(f"The shards contain more than {self._limits.max_total_bytes} bytes.")
        most = max(self._limits.ratio_floor_bytes, self._limits.max_ratio * self._packed_bytes)
        if self._num_bytes > most:  # whatever a shard declares of itself
            raise refuse_bomb(f"The shards unpack to more than {self._limits.max_ratio:.0f} times their size.")
        if len(self) == self._limits.max_members:
            raise ArchiveRefusedError(
                "too_many_files", f"The shards contain more than {self._limits.max_members} files.", "Split it."
            )
        self[name] = stretch

    def put_tar(self, upload: Upload, shard: Entry) -> list[Entry]:
        """Add the files of a tar shard, as `SHARD/FILE`, and return them by these names."""
        path = self.take_out(upload, shard)
        kind = detect_format(path)
        if kind not in (Format.TAR, *COMPRESSED):
            raise refuse_table(shard.name, f"it is a {kind} file, not a tar archive")
        if kind is not Format.TAR:
            path = self._unpack(path, kind)
        inside = open_tar(path, upload.limits)
        files = []
        for name, stretch in inside.stretches.items():
            files.append(Entry(f"{shard.name}/{name}", stretch.num_bytes))
            self.put(files[-1].name, stretch)
        return files
