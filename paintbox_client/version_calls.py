"""Methods of the client for existing versions: names, trash, verification, export."""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import quote

from paintbox_client.errors import InputError
from paintbox_client.records import JsonObject
from paintbox_client.resources.system import Finding
from paintbox_client.resources.versions import AliasCheck, Collected, ComparedVersions, Verification, Version
from paintbox_client.transport import Transport

_MIX_SECONDS = 600.0  # the service answers once the version is mixed
_EXPORT_SECONDS = 1200.0  # … converted, and compared with the version
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


class VersionCalls:
    """Methods of `Client` for existing versions."""

    _transport: Transport

    def relabel(
        self,
        version: int,
        name: str | None = None,
        tags: list[str] | None = None,
        serving_precision: str | None = None,
    ) -> Version:
        """Return the version with another name, other tags or another precision to be served in; None keeps them.

        Args:
            version: Its id.
            name: The new name.
            tags: The new tags, which replace the old ones.
            serving_precision: `auto`, `fp32`, `bf16` or `int8`; `installation`: as the service is configured.
        """
        labels = {"name": name, "tags": tags, "serving_precision": serving_precision}
        return Version(
            self._call("PATCH", version, json={key: value for key, value in labels.items() if value is not None})
        )

    def delete_version(self, version: int) -> Version:
        """Return the version, now in the trash."""
        return Version(self._call("DELETE", version))

    def restore_version(self, version: int) -> Version:
        """Return the version, taken out of the trash."""
        return Version(self._call("POST", version, "/restore"))

    def verify(self, version: int) -> Verification:
        """Return whether the version is unchanged since its registration: `matches`, and each of the `checks`."""
        return Verification(self._call("POST", version, "/verify", may_repeat=True, timeout=_MIX_SECONDS))

    def verify_all(self) -> Iterator[Finding]:
        """Yield findings as the service makes them: `what`, `name`, `ok` (None: it could not check), `detail`.

        The last one has `what` "summary"; its `ok` is the overall result.
        """
        yield from map(Finding, self._transport.lines("POST", "/v1/verify", _MIX_SECONDS))

    def collect_garbage(self, dry_run: bool = False) -> Collected:
        """Return what was purged from the trash, or with `dry_run` what would be."""
        return Collected(self._transport.send("POST", "/v1/gc", params={"dry_run": dry_run}))

    def compare_versions(self, before: int, after: int) -> ComparedVersions:
        """Return what distinguishes two versions: terms, and answers to the images that both were evaluated on."""
        return ComparedVersions(self._transport.get(f"/v1/versions/{before}/compare", **{"with": after}))

    def check(self, version: int, alias: str = "active") -> AliasCheck:
        """Return whether the alias may move to the version, and why or why not: its tasks, limits, what is missing."""
        path, body = f"/v1/aliases/{alias}/check", {"version": version}
        return AliasCheck(self._transport.send("POST", path, json=body, may_repeat=True, timeout=_MIX_SECONDS))

    def delete_alias(self, alias: str, reason: str = "") -> None:
        """Remove an alias; its history stays."""
        self._transport.send("DELETE", f"/v1/aliases/{alias}", params={"reason": reason})

    def export(self, version: int, folder: Path, format: str = "open_clip") -> list[Path]:
        """Write the version as a folder that another package loads, and return the files.

        Args:
            version: The version.
            folder: Created now; it must not exist, or be empty.
            format: `open_clip`, `transformers`, `onnx` or `openvino`; the service refuses one that has no place for the
                version's image tower.

        Raises:
            InputError: The folder is not empty or cannot be written.
        """
        path = f"/v1/versions/{version}/export" + ("" if format == "open_clip" else f"?format={quote(format)}")
        try:
            if folder.exists() and any(folder.iterdir()):
                raise InputError(f"{folder} is not empty.", "Choose a new folder.")
            with self._transport.download(path, _EXPORT_SECONDS) as stream:
                folder.mkdir(parents=True, exist_ok=True)  # not before: a version that there is not leaves none
                return _unpack(stream, folder)
        except OSError as error:
            raise InputError(f"{folder} cannot be written: {error}.", "Choose another folder.") from error

    def _call(self, method: str, version: int, path: str = "", **options: Any) -> JsonObject:
        answer: JsonObject = self._transport.send(method, f"/v1/versions/{version}{path}", **options)
        return answer


def _unpack(stream: IO[bytes], folder: Path) -> list[Path]:
    """Write the plain files of a tar, each by its last name alone, so that none lands outside the folder."""
    written = []
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                path = folder / _file_name(member)
                content = archive.extractfile(member)
                assert content is not None
                with path.open("xb") as target:
                    shutil.copyfileobj(content, target)
                written.append(path)
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"The export cannot be read: {error}.", "Retry, or use another service.") from error
    return written


def _file_name(member: tarfile.TarInfo) -> str:
    """Return the name of a plain file with a plain name: no link, no file with holes, no path of any system."""
    name = PurePosixPath(member.name).name
    if not member.isreg() or member.issparse() or not _FILE_NAME.fullmatch(name):
        raise InputError(
            f"The export contains {member.name[:100]!r}, which is not a regular file.", "Use another service."
        )
    return name
