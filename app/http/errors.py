"""Errors of the HTTP edge, and the table from an error to its status."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from paint_core.errors import (
    ConfigError,
    HeadError,
    ImageDecodeError,
    NoAcceptableAlphaError,
    PaintCoreError,
    WeightsError,
)
from registry.acceptance import MeanDrop, MissingTask, SupportedDrop
from registry.errors import (
    AliasMovedError,
    ArchiveRefusedError,
    BlobStoreUnreachableError,
    ConflictError,
    DatabaseDamagedError,
    DatabaseUnavailableError,
    NotFoundError,
    RegistryError,
    RequestRefusedError,
    StorageFullError,
    StorageQuotaError,
)


class EdgeError(Exception):
    """Base of the edge's errors. `code` is stable and machine-readable; `advice` says what to do next."""

    code = "edge_error"
    detail = advice = ""

    def __init__(self, detail: str = "", advice: str = "") -> None:
        self.detail, self.advice = detail or self.detail, advice or self.advice
        super().__init__(f"{self.detail} {self.advice}")


class _CodedError(EdgeError):
    """An error with one of several codes."""

    def __init__(self, code: str, detail: str, advice: str) -> None:
        super().__init__(detail, advice)
        self.code = code


class AccessRefusedError(_CodedError):
    """The caller may not send this request. `code` gives the reason."""


class RateLimitedError(EdgeError):
    """A key exceeds its rate limit."""

    code = "rate_limited"

    def __init__(self, limit: str, retry_after_seconds: int) -> None:
        super().__init__(
            f"Rate limit of the key exceeded: {limit}.",
            f"Retry in {retry_after_seconds} s, and send requests less often.",
        )
        self.retry_after_seconds = retry_after_seconds


class ImageRefusedError(EdgeError):
    """An image of a request is invalid. `code` gives the reason, `index` the image (the first is 0)."""

    def __init__(self, code: str, index: int, reason: str, advice: str) -> None:
        super().__init__(f"Image {index} {reason}.", advice)
        self.code = code
        self.index = index


class ImagesRefusedError(_CodedError):
    """A request has no image or too many."""


class LabelsRefusedError(_CodedError):
    """Labels or templates from which no head can be built. `code` gives the reason."""


class InferRefusedError(EdgeError):
    """A body that violates the Open Inference Protocol or names something that the model does not have."""

    code = "infer_refused"


class UnsupportedMediaTypeError(EdgeError):
    """A body in a format that the route does not accept."""

    code = "unsupported_media_type"

    def __init__(self, got: str, accepted: tuple[str, ...]) -> None:
        super().__init__(f"Unsupported content type: {got or 'none'}.", f"Send {' or '.join(accepted)}.")


class JobQuotaError(EdgeError):
    """An owner has the maximum number of unfinished jobs."""

    code = "job_quota"
    retry_after_seconds = 60

    def __init__(self, owner: str, num_unfinished: int) -> None:
        super().__init__(
            f"{owner!r} has {num_unfinished} unfinished jobs, which is the maximum.",
            "Wait until a job ends, or cancel one; list them with GET /v1/jobs?status=queued&status=running.",
        )
        self.num_unfinished = num_unfinished


class UploadRefusedError(_CodedError):
    """A resumable upload, or a part of one, is rejected. `code` gives the reason."""


class StorageUnavailableError(EdgeError):
    """The disk or the database file is unavailable: read-only, broken, or without free file descriptors."""

    code = "storage_unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The storage is unavailable: {reason}.",
            "Classification continues. The operator should check the disks of the data directory; retry afterwards.",
        )


class QueueFullError(EdgeError):
    """Too many images or texts are waiting."""

    code = "queue_full"

    def __init__(self, num_waiting: int, retry_after_seconds: int = 1, what: str = "images") -> None:
        super().__init__(
            f"The queue is full: {num_waiting} {what} are waiting.", f"Retry in {retry_after_seconds} s, or send less."
        )
        self.retry_after_seconds = retry_after_seconds


class DeadlineExceededError(EdgeError):
    """The deadline of a request has passed."""

    code = "deadline_exceeded"

    def __init__(self, waited_for: str) -> None:
        super().__init__(
            f"The deadline was exceeded while {waited_for}.", "Allow more time, send less, or retry later."
        )
        self.waited_for = waited_for


class TooManyStreamsError(EdgeError):
    """The maximum number of event streams is open."""

    code = "too_many_streams"
    retry_after_seconds = 5

    def __init__(self, num_open: int) -> None:
        super().__init__(
            f"{num_open} event streams are open, which is the maximum in total or for your key.",
            "Poll the events without streaming, or retry later.",
        )


class TooManyExportsError(EdgeError):
    """The maximum number of exports is running, in total or for one owner."""

    code = "too_many_exports"
    retry_after_seconds = 10

    def __init__(self, num_open: int) -> None:
        super().__init__(
            f"{num_open} exports are running, which is the maximum in total or for your key.",
            "Finish your running downloads, then retry.",
        )


class ExportFailedError(EdgeError):
    """The package that an export is for does not compute the version's features with it, so it is not sent."""

    code = "export_failed"

    def __init__(self, version_id: int, chosen: str, reason: str) -> None:
        super().__init__(
            f"Version {version_id} was not exported as {chosen}: {reason}.",
            "Export it as open_clip, and look into the log of the API.",
        )


class ModelNotLoadedError(EdgeError):
    """No version is served, because the one that `active` names could not be loaded."""

    code = "model_not_loaded"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"No version is loaded: {reason}", "See GET /readyz, and move the alias `active` to another version."
        )


class StartingError(EdgeError):
    """The process is still loading."""

    code = "starting"
    retry_after_seconds = 2
    detail = "The process is starting and loads its base models."
    advice = "Retry in a few seconds."


class ModelFailingError(EdgeError):
    """The served version fails. Reported to readiness probes only; requests are still tried."""

    code = "model_failing"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"Requests fail: {reason}.",
            "See the log of the API; move the alias `active` to another version, or restart.",
        )


class OutOfMemoryError(EdgeError):
    """The device ran out of memory."""

    code = "out_of_memory"
    detail = "The request ran out of memory."
    advice = "Send fewer images, labels or texts at once, or retry later."


class DrainingError(EdgeError):
    """The process is about to stop. Reported to readiness probes only; requests are still served."""

    code = "draining"
    detail = "The process is shutting down."
    advice = "Send new requests to another process, or wait for the restart."


class ActivationInProgressError(EdgeError):
    """Another activation is in progress."""

    code = "activation_in_progress"
    detail = "Another activation is in progress."
    advice = "Wait until it ends, then retry."


class VersionNotLoadedError(EdgeError):
    """A version could not be built, warmed or verified. `no_room`: for lack of memory."""

    code = "version_not_loaded"

    def __init__(self, version_id: int, cause: str, *, no_room: bool = False) -> None:
        super().__init__(f"Version {version_id} cannot be loaded: {cause}", "Fix the cause, or use another version.")
        self.version_id = version_id
        self.cause = cause
        self.no_room = no_room


class ActivationFailedError(EdgeError):
    """A version could not be loaded, warmed or verified; nothing has changed."""

    code = "activation_failed"

    def __init__(self, version_id: int, cause: str) -> None:
        super().__init__(
            f"Version {version_id} was not activated: {cause}", "The previous version keeps serving; fix the cause."
        )
        self.version_id = version_id


class SupportedDropError(EdgeError):
    """A version exceeds the limit on the drop of supported tasks, so it may not answer requests."""

    code = "supported_drop"

    def __init__(self, version_id: int, drops: Sequence[SupportedDrop | MeanDrop]) -> None:
        super().__init__(
            f"Version {version_id} exceeds the allowed drop: {'; '.join(map(str, drops))}.",
            "Choose another alpha (reselect), or send force: true with a reason.",
        )
        self.version_id = version_id
        self.drops = tuple(drops)


class NotEvaluatedError(EdgeError):
    """Supported tasks have limits, but were not measured on the version's weights."""

    code = "not_evaluated"

    def __init__(self, version_id: int, missing: Sequence[MissingTask]) -> None:
        what = f" on {', '.join(map(str, missing))}" if missing else " on any supported task"
        super().__init__(
            f"Version {version_id} has not been evaluated{what}, so it may exceed the limit of supported tasks.",
            "Evaluate it and its base on these data sets (POST /v1/evaluations), or send force: true with a reason.",
        )
        self.version_id = version_id
        self.missing = tuple(missing)


class BaseNotLoadedError(EdgeError):
    """The base of a version is not loaded in this process."""

    code = "conflict"

    def __init__(self, fingerprint: str) -> None:
        super().__init__(f"Base {fingerprint[:12]}… is not loaded.", "Add it to PAINTBOX_BASES and restart.")
        self.fingerprint = fingerprint


class CompositionInProgressError(EdgeError):
    """Another version is being mixed."""

    code = "composition_in_progress"
    detail = "Another version is being mixed."
    advice = "Retry in a few seconds."


class VerificationInProgressError(EdgeError):
    """Another verification of everything is running."""

    code = "verification_in_progress"
    detail = "A verification is already running."
    advice = "Wait until it ends, then retry."


_STATUS_OF_CODE: dict[str, HTTPStatus] = {
    "dataset_not_ready": HTTPStatus.CONFLICT,
    "no_interpolant": HTTPStatus.CONFLICT,
    "too_much_feedback": HTTPStatus.CONFLICT,
    "unauthorised": HTTPStatus.UNAUTHORIZED,
    "key_expired": HTTPStatus.UNAUTHORIZED,
    "key_revoked": HTTPStatus.UNAUTHORIZED,
    "session_ended": HTTPStatus.UNAUTHORIZED,
    "image_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "upload_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "upload_stalled": HTTPStatus.REQUEST_TIMEOUT,
    "too_many_uploads": HTTPStatus.TOO_MANY_REQUESTS,
    "tus_version": HTTPStatus.PRECONDITION_FAILED,
}
_STATUS_OF_CLASS: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (ConflictError, HTTPStatus.CONFLICT),
    (AliasMovedError, HTTPStatus.PRECONDITION_FAILED),
    (ArchiveRefusedError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (RequestRefusedError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (ImageDecodeError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (HeadError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (WeightsError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (ConfigError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (NoAcceptableAlphaError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (AccessRefusedError, HTTPStatus.FORBIDDEN),
    (ImageRefusedError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (ImagesRefusedError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (LabelsRefusedError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (InferRefusedError, HTTPStatus.BAD_REQUEST),
    (UnsupportedMediaTypeError, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    (UploadRefusedError, HTTPStatus.CONFLICT),
    (RateLimitedError, HTTPStatus.TOO_MANY_REQUESTS),
    (JobQuotaError, HTTPStatus.TOO_MANY_REQUESTS),
    (QueueFullError, HTTPStatus.TOO_MANY_REQUESTS),
    (TooManyStreamsError, HTTPStatus.TOO_MANY_REQUESTS),
    (TooManyExportsError, HTTPStatus.TOO_MANY_REQUESTS),
    (ExportFailedError, HTTPStatus.INTERNAL_SERVER_ERROR),
    (DeadlineExceededError, HTTPStatus.GATEWAY_TIMEOUT),
    (ModelNotLoadedError, HTTPStatus.SERVICE_UNAVAILABLE),
    (StartingError, HTTPStatus.SERVICE_UNAVAILABLE),
    (ModelFailingError, HTTPStatus.SERVICE_UNAVAILABLE),
    (OutOfMemoryError, HTTPStatus.SERVICE_UNAVAILABLE),
    (DrainingError, HTTPStatus.SERVICE_UNAVAILABLE),
    (BlobStoreUnreachableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (DatabaseUnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (DatabaseDamagedError, HTTPStatus.SERVICE_UNAVAILABLE),
    (StorageUnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (StorageFullError, HTTPStatus.INSUFFICIENT_STORAGE),
    (StorageQuotaError, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (ActivationInProgressError, HTTPStatus.CONFLICT),
    (VersionNotLoadedError, HTTPStatus.CONFLICT),
    (ActivationFailedError, HTTPStatus.CONFLICT),
    (SupportedDropError, HTTPStatus.CONFLICT),
    (NotEvaluatedError, HTTPStatus.CONFLICT),
    (BaseNotLoadedError, HTTPStatus.CONFLICT),
    (CompositionInProgressError, HTTPStatus.CONFLICT),
    (VerificationInProgressError, HTTPStatus.CONFLICT),
)


def status_of(error: RegistryError | EdgeError | PaintCoreError) -> HTTPStatus:
    """Return the HTTP status of an error; an error in neither table is a bug: 500."""
    if error.code in _STATUS_OF_CODE:
        return _STATUS_OF_CODE[error.code]
    matches = (status for kind, status in _STATUS_OF_CLASS if isinstance(error, kind))
    return next(matches, HTTPStatus.INTERNAL_SERVER_ERROR)
