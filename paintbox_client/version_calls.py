"""The part of the client that looks after versions: names, trash, verification, export."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, Any

from paintbox_client.errors import InputError
from paintbox_client.transport import Transport

JsonObject = dict[str, Any]
_MIX_SECONDS = 600.0  # the service answers once the version is mixed


class VersionCalls:
    """What `Client` can do with versions that are there."""

    _transport: Transport

    def relabel(self, version: int, name: str | None = None, tags: list[str] | None = None) -> JsonObject:
        """Return the version with another name or other tags.

        Args:
            version: The version.
            name: The new name; None leaves it.
            tags: All the tags that it is to have; None leaves them.

        Returns:
            The version.
        """
        labels = {"name": name, "tags": tags}
        return self._call("PATCH", version, json={key: value for key, value in labels.items() if value is not None})

    def delete_version(self, version: int) -> JsonObject:
        """Return the version, now in the trash."""
        return self._call("DELETE", version)

    def restore_version(self, version: int) -> JsonObject:
        """Return the version, taken out of the trash."""
        return self._call("POST", version, "/restore")

    def verify(self, version: int) -> JsonObject:
        """Return whether the version is still what was registered: `matches`, and each of the `checks`."""
        return self._call("POST", version, "/verify", timeout=_MIX_SECONDS)

    def collect_garbage(self, dry_run: bool = False) -> JsonObject:
        """Return what was purged of the trash, or with `dry_run` what would be."""
        answer: JsonObject = self._transport.send("POST", "/v1/gc", params={"dry_run": dry_run})
        return answer

    def delete_alias(self, alias: str, reason: str = "") -> None:
        """Remove an alias; its history stays."""
        self._transport.send("DELETE", f"/v1/aliases/{alias}", params={"reason": reason})

    def export(self, version: int, folder: Path) -> list[Path]:
        """Write the version as a folder that open_clip loads as `local-dir:FOLDER`.

        Args:
            version: The version.
            folder: Made now; it must not be there, or be empty.

        Returns:
            The files.

        Raises:
            InputError: There is something in the folder, or the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise InputError(f"{folder} is not empty.", "Name a new folder.")
            with self._transport.download(f"/v1/versions/{version}/export", _MIX_SECONDS) as stream:
                return _unpack(stream, folder)
        except OSError as error:
            raise InputError(f"{folder} cannot be written: {error}.", "Name another folder.") from error

    def _call(self, method: str, version: int, path: str = "", **options: Any) -> JsonObject:
        answer: JsonObject = self._transport.send(method, f"/v1/versions/{version}{path}", **options)
        return answer


def _unpack(stream: IO[bytes], folder: Path) -> list[Path]:
    """Write the plain files of a tar, each by its last name alone, so that none lands outside the folder."""
    written = []
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            name = PurePosixPath(member.name).name
            if content is None or name in ("", ".."):
                raise InputError(f"The export holds {member.name!r}, which is no plain file.", "Ask another service.")
            path = folder / name
            with path.open("xb") as target:
                shutil.copyfileobj(content, target)
            written.append(path)
    return written
