"""Errors of the registry. They carry data and know nothing of HTTP; `app.http.errors` maps them to statuses.

RegistryError
├── NotFoundError            no such data set, job, patch, version or alias
├── ConflictError            the thing is in a state that forbids this
│   ├── VersionInUseError    … a version that is needed cannot go
│   ├── DatasetInUseError    … nor a data set that is named
│   └── PatchInUseError      … nor a patch that has versions
├── AliasMovedError          the alias has moved since the caller looked at it
├── ArchiveRefusedError      an uploaded archive is hostile, damaged or not in a layout we read
├── RequestRefusedError      a request that is well-formed but cannot be started
├── LeaseLostError           this worker no longer holds the job; its write was refused
├── BlobMissingError         the blob store has no object of this hash
├── BlobCorruptError         an object's bytes no longer match their hash
├── BlobStoreUnreachableError  the blob store does not answer or refuses us
├── DatabaseUnavailableError  the database does not answer, is locked or cannot be written
├── DatabaseDamagedError     the database's pages cannot be read
├── StorageFullError         the disk has too little room left for anything to be added
├── StorageQuotaError        an owner stores as many bytes as they may
└── ConfigurationError       a setting is wrong; the process must not start
"""

from __future__ import annotations

from collections.abc import Sequence

from contract.names import shorten


class RegistryError(Exception):
    """Base of all registry errors. `code` is stable and machine-readable; `advice` says what to do next."""

    code = "registry_error"

    def __init__(self, detail: str, advice: str = "") -> None:
        super().__init__(f"{detail} {advice}".strip())
        self.detail = detail
        self.advice = advice


class NotFoundError(RegistryError):
    """Nothing of this kind has this id."""

    code = "not_found"

    def __init__(self, kind: str, identifier: object, advice: str = "") -> None:
        super().__init__(
            f"There is no {kind} {shorten(identifier) if isinstance(identifier, str) else identifier!r}.",
            advice or f"Use the id of an existing {kind}; this one may have been deleted.",
        )
        self.kind = kind
        self.identifier = identifier


class ConflictError(RegistryError):
    """The thing is in a state that forbids this."""

    code = "conflict"


class VersionInUseError(ConflictError):
    """A version that something needs cannot be deleted."""

    code = "version_in_use"


_MAX_NAMED_USERS = 10


def name_some(users: Sequence[object]) -> str:
    """Return the first few of what uses something, and how many more there are."""
    named = ", ".join(str(user) for user in users[:_MAX_NAMED_USERS])
    num_more = len(users) - _MAX_NAMED_USERS
    return named if num_more <= 0 else f"{named} and {num_more} more"


class DatasetInUseError(ConflictError):
    """A data set that patches or evaluations name cannot be deleted, unless that is forced."""

    code = "dataset_in_use"

    def __init__(self, identifier: str, patch_ids: Sequence[str], evaluation_ids: Sequence[str] = ()) -> None:
        users = {"patches": patch_ids, "evaluations": evaluation_ids}
        named = " and ".join(f"these {kind}: {name_some(ids)}" for kind, ids in users.items() if ids)
        super().__init__(
            f"Data set {identifier} is used by {named}.",
            "Delete them first, or send force=true: they keep their reports and versions, but cannot be retried.",
        )
        self.patch_ids, self.evaluation_ids = tuple(patch_ids), tuple(evaluation_ids)


class PatchInUseError(ConflictError):
    """A patch that has versions cannot be deleted."""

    code = "patch_in_use"

    def __init__(self, identifier: str, version_ids: Sequence[int]) -> None:
        super().__init__(
            f"Patch {identifier} is used by these versions: {name_some(version_ids)}.",
            "Delete them first; a version in the trash must be purged (POST /v1/gc).",
        )
        self.version_ids = tuple(version_ids)


class AliasMovedError(RegistryError):
    """The alias has moved since the caller looked at it, so what they decided may be out of date."""

    code = "alias_moved"

    def __init__(self, name: str, revision: int) -> None:
        if revision:
            detail = f'Alias {name!r} was moved by another request; its ETag is now "{revision}".'
            advice = f"Get /v1/aliases/{name} again and send its ETag as If-Match."
        else:
            detail, advice = f"There is no alias {name!r}.", "Omit If-Match to create it."
        super().__init__(detail, advice)
        self.revision = revision


class ArchiveRefusedError(RegistryError):
    """An uploaded archive is hostile, damaged, or not in a layout that we read. `code` says why."""

    def __init__(self, code: str, detail: str, advice: str = "") -> None:
        super().__init__(detail, advice)
        self.code = code


class LargeArchiveError(Exception):
    """An archive has more entries than a first look reads. Internal: it says nothing about the archive."""


class RequestRefusedError(RegistryError):
    """A well-formed request that cannot be started. `code` says why."""

    def __init__(self, code: str, detail: str, advice: str = "") -> None:
        super().__init__(detail, advice)
        self.code = code


class LeaseLostError(RegistryError):
    """The job's lease is held by another worker, or the job has ended; the write was rejected."""

    code = "lease_lost"

    def __init__(self, job_id: str, token: int) -> None:
        super().__init__(
            f"Lease {token} on job {job_id} has expired.", "Stop working on it; another worker holds the job."
        )
        self.job_id = job_id
        self.token = token


class BlobMissingError(RegistryError):
    """The blob store has no object of this hash."""

    code = "blob_missing"

    def __init__(self, sha256: str) -> None:
        super().__init__(f"Blob {sha256} is missing.", "Restore the blob folder from a backup.")
        self.sha256 = sha256


class BlobCorruptError(RegistryError):
    """An object's bytes no longer match the hash they were stored under."""

    code = "blob_corrupt"

    def __init__(self, sha256: str, actual: str) -> None:
        super().__init__(f"Blob {sha256} is corrupt: its hash is {actual}.", "Restore it from a backup.")
        self.sha256 = sha256
        self.actual = actual


class BlobStoreUnreachableError(RegistryError):
    """The blob store does not answer, or refuses us."""

    code = "blob_store_unreachable"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The blob store is unreachable: {reason}.", "Retry later; the operator should check the bucket."
        )


class DatabaseUnavailableError(RegistryError):
    """The database does not answer, is locked or cannot be written; that may pass."""

    code = "database_unavailable"
    retry_after_seconds = 5

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The database is unavailable: {reason}.",
            f"Retry in {self.retry_after_seconds} s. If the problem persists, the operator should check the database.",
        )


class DatabaseDamagedError(RegistryError):
    """The database's pages cannot be read."""

    code = "database_damaged"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The database is damaged: {reason}.", "Stop the service and restore it from a backup.")


class StorageFullError(RegistryError):
    """The disk has too little room left, so nothing may be added. What is there can still be read and deleted."""

    code = "storage_full"
    retry_after_seconds = 60

    def __init__(self, reason: str = "the disk is full") -> None:
        super().__init__(
            f"Not enough disk space: {reason}.",
            "Delete data sets, patches or uploads and run `paintbox gc`, or ask the operator to free disk space or "
            "enlarge the disk.",
        )


class StorageQuotaError(RegistryError):
    """An owner stores as many bytes as they may."""

    code = "storage_quota"

    def __init__(self, owner: str, stored_bytes: int, num_bytes: int, limit: int) -> None:
        more = f" and would add {num_bytes:,}" if num_bytes else ""
        super().__init__(
            f"Storage quota exceeded: {owner!r} stores {stored_bytes:,} bytes{more}; the limit is {limit:,}.",
            "Delete your data sets, patches, label sets or unfinished uploads, or ask the operator to increase "
            "PAINTBOX_MAX_STORED_BYTES.",
        )


class ConfigurationError(RegistryError):
    """A setting is wrong; the process must not start."""

    code = "configuration"
