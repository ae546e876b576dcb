"""Shards within an upload: Parquet and tar files, taken out one by one and read as if they were one archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from registry.archives import refuse_bomb
from registry.errors import ArchiveRefusedError
from registry.intake.containers import Stretch, open_tar
from registry.intake.names import Entry, Parts, splits_of_files
from registry.intake.plan import Upload


@dataclass(frozen=True)
class Shard:
    """A shard of an upload and the split that its name tells."""

    entry: Entry
    split: str | None


def find_shards(files: Sequence[tuple[Entry, Parts]], suffix: str) -> list[Shard]:
    """Return the files that end in `suffix`, in the order of their names, with their splits."""
    found = [(entry, parts) for entry, parts in files if parts[-1].lower().endswith(suffix)]
    splits = splits_of_files([parts for _, parts in found])
    return [Shard(entry, split) for (entry, _), split in zip(found, splits, strict=True)]


class Stretches(dict[str, Stretch]):
    """Files by name, under the budgets of the upload as a whole.

    Args:
        upload: Whose limits hold.
    """

    def __init__(self, upload: Upload) -> None:
        super().__init__()
        self._limits = upload.limits
        self._num_bytes = 0
        self._packed_bytes = 0

    def take_out(self, upload: Upload, shard: Entry) -> Path:
        """Return a copy of a shard on disk; its size is what its files' is measured by."""
        path = upload.take_out(shard.name, self._limits.max_shard_bytes)
        self._packed_bytes += path.stat().st_size
        return path

    def put(self, name: str, stretch: Stretch) -> None:
        """Add a file.

        Args:
            name: What it is called from now on.
            stretch: Where it is.

        Raises:
            ArchiveRefusedError: There are too many, or they are too large together.
        """
        self._num_bytes += stretch.num_bytes
        if self._num_bytes > self._limits.max_total_bytes:
            raise refuse_bomb(f"Its shards hold more than {self._limits.max_total_bytes} bytes.")
        most = max(self._limits.ratio_floor_bytes, self._limits.max_ratio * self._packed_bytes)
        if self._num_bytes > most:  # whatever a shard declares of itself
            raise refuse_bomb(f"Its shards hold over {self._limits.max_ratio:.0f} times their own size.")
        if len(self) == self._limits.max_members:
            raise ArchiveRefusedError(
                "too_many_files", f"Its shards hold more than {self._limits.max_members} files.", "Split it."
            )
        self[name] = stretch

    def put_tar(self, upload: Upload, shard: Entry) -> list[Entry]:
        """Add the files of a tar shard, as `SHARD/FILE`, and return them by these names."""
        path = self.take_out(upload, shard)
        inside = open_tar(path, upload.limits)
        files = []
        for name, stretch in inside.stretches.items():
            files.append(Entry(f"{shard.name}/{name}", stretch.num_bytes))
            self.put(files[-1].name, stretch)
        return files
