"""Rows that tests start from."""

from sqlalchemy.orm import Session

from contract.lineage import Lineage
from contract.patch_request import PatchRequest
from registry.datasets import DatasetContent, DatasetOptions, Datasets
from registry.tables import BaseModelRow, DatasetRow, VersionRow
from registry.versions import TermSpec, Versions

FINGERPRINT = "f" * 64
VECTOR = "a" * 64
ALL_SPLITS = ("train", "validation", "test")


def add_base(session: Session) -> BaseModelRow:
    return Versions(session).ensure_base(ref="starter", fingerprint=FINGERPRINT, embed_dim=8, image_size=32)


def add_version(session: Session, job_id: str | None = None, terms: tuple[TermSpec, ...] = ()) -> VersionRow:
    versions = Versions(session)
    versions.ensure_base(ref="starter", fingerprint=FINGERPRINT, embed_dim=8, image_size=32)
    return versions.register(
        name="v",
        base_fingerprint=FINGERPRINT,
        terms=terms,
        probe=[0.5],
        lineage=Lineage.of_stored({"by": "test"}),
        job_id=job_id,
    )


def add_task_vector(session: Session, sha256: str = VECTOR) -> None:
    Versions(session).add_task_vector(
        sha256=sha256, base_fingerprint=FINGERPRINT, num_bytes=10, relative_norm=0.1, job_id="job_1"
    )


def content(*splits: str, classnames: tuple[str, ...] = ("cat", "dog")) -> DatasetContent:
    shards = {split: {"sha256": split[0] * 64, "num_images": 4} for split in splits}
    counts = {split: dict.fromkeys(classnames, 2) for split in splits}
    return DatasetContent(classnames, (), shards, counts, [{"file": "x.txt", "reason": "not named like an image"}])


def submit_dataset(session: Session, archive: str) -> DatasetRow:
    return Datasets(session).submit(archive, archive.ljust(64, "0"), DatasetOptions())[0]


def ready_dataset(session: Session, archive: str, splits: tuple[str, ...] = ALL_SPLITS) -> DatasetRow:
    row = submit_dataset(session, archive)
    Datasets(session).complete(row.id, content(*splits))
    session.flush()
    return row


def request(*tasks: str, supported: tuple[str, ...] = (), base: str | None = None) -> PatchRequest:
    return PatchRequest(name="p", tasks=tasks, supported=supported, base=base)
