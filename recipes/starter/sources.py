"""The packages that the pictograms come from, pinned by version and content, fetched through npm's own client.

What is never trained on: the vendors with role `held_out`, which the project validates on and makes its supported tasks
of, and every package that `sources.json` does not name.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Role = Literal["emoji", "icons", "held_out", "words"]

_LIST = Path(__file__).with_name("sources.json")
_WANTED = {"emoji": "icons.json", "icons": "icons.json", "held_out": "icons.json", "words": "en/data.json"}


class FetchError(Exception):
    """A package could not be fetched, or is not what it was; says which and what to do."""


@dataclass(frozen=True)
class Source:
    """A package.

    Attributes:
        package: its name in the npm registry.
        version: exact.
        integrity: `sha512-` and the base64 digest of its archive, as npm writes it.
        role: `emoji` and `icons` are trained on, `held_out` only judges, `words` has names and tags.
        licence: SPDX identifier.
        author: for the notice.
    """

    package: str
    version: str
    integrity: str
    role: Role
    licence: str
    author: str

    @property
    def name(self) -> str:
        """The last part of the package's name."""
        return self.package.rpartition("/")[2]


def read_sources(role: Role | None = None) -> tuple[Source, ...]:
    """Return the packages of a role, or all of them."""
    sources = [Source(**entry) for entry in json.loads(_LIST.read_text(encoding="utf-8"))]
    return tuple(source for source in sources if role in (None, source.role))


def fetch(source: Source, folder: Path) -> Path:
    """Return the one file of a package that the recipe reads; fetched now if it is not there.

    Args:
        source: Which package.
        folder: Where archives and files are kept.

    Raises:
        FetchError: npm is missing or failed, or the archive is not the pinned one.
    """
    target = folder / f"{source.name}-{source.version}.json"
    if not target.exists():
        archive = _pack(source, folder)
        require_integrity(source, archive)
        partial = target.with_suffix(".partial")
        partial.write_bytes(_read_member(archive, f"package/{_WANTED[source.role]}"))
        partial.replace(target)
        archive.unlink()
    return target


def load_json(source: Source, folder: Path) -> Any:
    """Return the parsed file of a package."""
    return json.loads(fetch(source, folder).read_text(encoding="utf-8"))


def _pack(source: Source, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    command = ["npm", "pack", "--silent", f"{source.package}@{source.version}"]
    try:
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=600)
    except FileNotFoundError:
        raise FetchError("npm is not installed: the pictograms come from its registry; install Node.js") from None
    except subprocess.SubprocessError as error:
        detail = (getattr(error, "stderr", "") or str(error)).strip()
        raise FetchError(f"{' '.join(command)} failed: {detail[-500:]}; check the network and try again") from error
    return folder / _last_line(done.stdout.splitlines())


def _last_line(lines: Sequence[str]) -> str:
    return next(line.strip() for line in reversed(lines) if line.strip())


def require_integrity(source: Source, archive: Path) -> None:
    """Refuse and remove an archive that is not the pinned one.

    Args:
        source: Which package it should be.
        archive: What was fetched.

    Raises:
        FetchError: It is another.
    """
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != source.integrity:
        archive.unlink()
        raise FetchError(
            f"{source.package}@{source.version} is {found[:20]}…, pinned is {source.integrity[:20]}…: the archive is "
            "damaged or was published anew; fetch it again, or review it and pin the new one"
        )


def _read_member(archive: Path, name: str) -> bytes:
    with tarfile.open(archive) as tar:
        member = tar.extractfile(name)
        assert member is not None  # the integrity was checked: the archive is the one that was looked at
        return member.read()
