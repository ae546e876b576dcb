"""Export of a version as a tar of a folder that another package loads, with a model card and results."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated

from starlette.types import Receive, Scope, Send

from app.http.dependencies import BlobsDep, DatabaseDep, SettingsDep, built
from app.http.errors import BaseNotLoadedError, ExportFailedError
from app.http.timed_response import TimedResponse
from app.models.bases import BasesDep
from app.versions.card import eval_results, model_card
from app.versions.exports import ExportsDep
from app.versions.schemas import Version
from app.versions.service import describe
from paint_core.errors import ExportError
from paint_core.exporting import HEAD_NAME, ExportFormat, Label, require_exportable
from paint_core.models import BaseModel, write_model
from pipeline.exporting import ConversionError, Order, convert
from pipeline.towers import mix_tower
from registry.datasets import Datasets
from registry.errors import NotFoundError, RequestRefusedError
from registry.tables import VersionRow
from registry.versions import TermSpec, Versions

TAR_MEDIA_TYPE = "application/x-tar"
_CHUNK_BYTES = 1 << 18
_LEAST_SECONDS = 600.0
_LEAST_BYTES_PER_SECOND = 1 << 18
"""Time limit for reading an export, extended for large files; the file is freed after it has been sent."""


@dataclass(frozen=True)
class Export:
    """A tar that is ready to be sent: its file name, size, bytes (once), and the open files that they are read from."""

    name: str
    num_bytes: int
    chunks: Iterator[bytes]
    files: ExitStack


class ExportResponse(TimedResponse):
    """The tar, after which its files are closed, even if the client disconnects early."""

    def __init__(self, export: Export) -> None:
        headers = {
            "Content-Length": str(export.num_bytes),
            "Content-Disposition": f'attachment; filename="{export.name}"',
        }
        seconds = _LEAST_SECONDS + export.num_bytes / _LEAST_BYTES_PER_SECOND
        super().__init__(export.chunks, seconds, TAR_MEDIA_TYPE, headers)
        self._files = export.files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        with self._files:
            await super().__call__(scope, receive, send)


@dataclass(frozen=True)
class _Source:
    """What an export reads of a version, in one transaction."""

    row: VersionRow
    terms: tuple[TermSpec, ...]
    described: Version
    labels: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    """Classnames and templates of each data set that it was patched on."""


@dataclass(frozen=True)
class Exporter:
    """Exports versions."""

    database: DatabaseDep
    blobs: BlobsDep
    bases: BasesDep
    exports: ExportsDep
    settings: SettingsDep

    def export(self, version_id: int, owner: str | None = None, chosen: ExportFormat = "open_clip") -> Export:
        """Return the tar of a version: one folder, whose files are unlinked in the scratch folder until they are sent.

        Raises:
            RequestRefusedError: It has a head term, or its base has no place in the format.
            BaseNotLoadedError: Its base is not loaded in this process.
            ExportFailedError: The package that the format is for does not compute the version's features.
        """
        source = self._read(version_id)
        base = self.bases.get(source.row.base_fingerprint)
        if base is None:
            raise BaseNotLoadedError(source.row.base_fingerprint)
        _require_format(version_id, base, chosen)
        with ExitStack() as stack:
            stack.enter_context(self.exports.place(owner))
            with tempfile.TemporaryDirectory(dir=self.settings.scratch_dir, prefix="export-") as name:
                folder = self._write(Path(name), source, base, owner, chosen)
                _write_card(folder, source.described, chosen)
                members = [_member(path, f"version-{version_id}", source.row) for path in sorted(folder.iterdir())]
                files = [stack.enter_context(path.open("rb")) for path in sorted(folder.iterdir())]
            kept_open = stack.pop_all()
        num_bytes = sum(len(_header(member)) + _padded(member.size) for member in members) + 2 * tarfile.BLOCKSIZE
        suffix = "" if chosen == "open_clip" else f"-{chosen}"
        return Export(f"paintbox-version-{version_id}{suffix}.tar", num_bytes, _stream(members, files), kept_open)

    def _read(self, version_id: int) -> _Source:
        with self.database.read() as session:
            versions = Versions(session)
            row, terms = versions.get(version_id), tuple(versions.terms(version_id))
            described = describe(session, row)
            labels = tuple(_labels_of(Datasets(session), described))
        if any(term.is_head and term.coefficient for term in terms):
            raise RequestRefusedError(
                "head_term_not_exportable",
                f"Version {version_id} has a head term, which no other package can load.",
                "Compose a version without it (POST /v1/versions with `from_version` and `remove`), and export that.",
            )
        return _Source(row, terms, described, labels)

    def _write(self, place: Path, source: _Source, base: BaseModel, owner: str | None, chosen: ExportFormat) -> Path:
        """Return the folder of the format, written into an empty one."""
        folder = place / "open_clip"
        with self.exports.turns.take(owner):
            write_model(folder, base, mix_tower(base, source.terms, self.blobs))
        if chosen == "open_clip":
            return folder
        target = place / chosen
        target.mkdir()
        labels = [
            Label(name, templates or base.default_templates) for names, templates in source.labels for name in names
        ]
        order = Order(folder, target, chosen, source.row.probe, self.settings.program_dir, tuple(labels))
        with self.exports.conversions.take(owner):
            try:
                convert(order)
            except ExportError as error:
                raise _refusal(source.row.id, chosen, error) from error
            except ConversionError as error:
                raise ExportFailedError(source.row.id, chosen, str(error)) from error
        return target


def _labels_of(datasets: Datasets, version: Version) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Yield classnames and templates of the data sets that a version was patched on, as far as they still exist."""
    for task in version.evaluation.tasks if version.evaluation else ():
        if task.role != "patching":
            continue
        try:
            row = datasets.get(task.dataset_id)
        except NotFoundError:
            continue
        yield tuple(row.classnames or ()), tuple(row.templates or ())


def _require_format(version_id: int, base: BaseModel, chosen: ExportFormat) -> None:
    try:
        require_exportable(base, chosen)
    except ExportError as error:
        raise _refusal(version_id, chosen, error) from error


def _refusal(version_id: int, chosen: ExportFormat, error: ExportError) -> RequestRefusedError:
    return RequestRefusedError(
        "export_format_unavailable",
        f"Version {version_id} cannot be exported as {chosen}: {error.reason}.",
        f"Use format {' or '.join(error.usable)}.",
    )


def _write_card(folder: Path, version: Version, chosen: ExportFormat) -> None:
    card = model_card(version, chosen, has_head=(folder / HEAD_NAME).exists())
    (folder / "README.md").write_text(card, encoding="utf-8")
    if version.evaluation is not None:
        (folder / "eval_results.yaml").write_text(eval_results(version), encoding="utf-8")


def _member(path: Path, folder: str, row: VersionRow) -> tarfile.TarInfo:
    member = tarfile.TarInfo(f"{folder}/{path.name}")
    member.size, member.mtime = path.stat().st_size, int(row.created_at.timestamp())
    return member


def _header(member: tarfile.TarInfo) -> bytes:
    return member.tobuf(tarfile.GNU_FORMAT)


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _stream(members: Sequence[tarfile.TarInfo], files: Sequence[IO[bytes]]) -> Iterator[bytes]:
    for member, file in zip(members, files, strict=True):
        yield _header(member)
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
        yield b"\0" * (_padded(member.size) - member.size)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


ExporterDep = Annotated[Exporter, built(Exporter)]
