"""The Python client: one method for each operation of the service."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from paintbox_client.classify_calls import ClassifyCalls
from paintbox_client.dataset_calls import DatasetCalls
from paintbox_client.discovery import find_running, resolve_url
from paintbox_client.errors import ApiError, InputError, ServiceUnreachableError
from paintbox_client.evaluation_calls import EvaluationCalls
from paintbox_client.event_calls import EventMethods
from paintbox_client.feedback_calls import FeedbackCalls
from paintbox_client.gallery_calls import GalleryCalls
from paintbox_client.keys import KeyMethods
from paintbox_client.outages import CALL_SECONDS, WAIT_SECONDS, Patience
from paintbox_client.patch_calls import PatchCalls
from paintbox_client.records import AnyRecord, JsonObject
from paintbox_client.references import References
from paintbox_client.resources.datasets import DatasetBrief
from paintbox_client.resources.inference import LabelSetBrief
from paintbox_client.resources.jobs import Job, JobDetail, JobEvent, NamedJob
from paintbox_client.resources.patches import Patch, PatchBrief, PatchStarted, Reselected
from paintbox_client.resources.system import Base, Ready, System
from paintbox_client.resources.versions import Alias, AliasApproval, AliasChange, RolledBackAlias, Version
from paintbox_client.transport import DEFAULT_TIMEOUT_SECONDS, Transport
from paintbox_client.version_calls import VersionCalls
from paintbox_client.waiting import ENDED, wait_for_job

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

_ACTIVATE_SECONDS = 600.0  # the service answers an activation once the version is loaded and verified
_MIX_SECONDS = 600.0  # … and a new version once it is mixed and has a probe
_PAGE_SECONDS = 5.0  # poll interval without an event stream


def _find_again() -> str | None:
    """Return where this user's service is now; None if that is not clear."""
    try:
        return find_running()
    except InputError:
        return None


class Client(
    ClassifyCalls,
    DatasetCalls,
    EvaluationCalls,
    EventMethods,
    FeedbackCalls,
    GalleryCalls,
    KeyMethods,
    PatchCalls,
    VersionCalls,
    References,
):
    """A client of one Paintbox service.

    Responses are objects of `paintbox_client.resources`, with a typed attribute for each field that the service's
    `/docs` describe. Every method raises `ApiError` if the service rejects the request and `ServiceUnreachableError` if
    it does not respond.

    Args:
        url: The service's address; default: `PAINTBOX_URL`, else this user's running service, else the usual address.
        api_key: API key; default: `PAINTBOX_API_KEY`.
        transport: An HTTP transport; default: the network.
        timeout: Seconds without a response; None: no limit.
        patience_seconds: How long to retry while the service is unreachable: waiting for a job, following one, a
            resumable upload, and a download.
        retry_seconds: How long to retry any other request that may be repeated: reads, and requests that the service
            carries out once however often they arrive.
        on_outage: Called once in each outage, with a sentence.
        max_parallel: How many requests one call of `classify` or `embed` may send at the same time.
        find_url: Returns where the service is now, if its address may change; default: only for this user's running
            service.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        transport: httpx2.BaseTransport | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_SECONDS,
        *,
        patience_seconds: float = WAIT_SECONDS,
        retry_seconds: float = CALL_SECONDS,
        on_outage: Callable[[str], object] | None = None,
        max_parallel: int = 4,
        find_url: Callable[[], str | None] | None = None,
    ) -> None:
        patience = Patience(patience_seconds, min(retry_seconds, patience_seconds), on_outage or (lambda text: None))
        if url is None and not os.environ.get("PAINTBOX_URL"):
            find_url = find_url or _find_again
        api_key = api_key or os.environ.get("PAINTBOX_API_KEY") or None
        self._max_parallel = max_parallel
        self._transport = Transport(resolve_url(url), api_key, transport, timeout, patience, find_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The service's address."""
        return self._transport.url

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    # -- data sets ----------------------------------------------------------------------------------------------

    def datasets(self, limit: int = 100, **filters: Any) -> list[DatasetBrief]:
        """Return at most `limit` of the newest data sets, newest first.

        Filters are `state`, `ref`, `name`, `owner` and `since`.
        """
        return self._items(DatasetBrief, "/v1/datasets", limit, **filters)

    def label_sets(self, limit: int = 100, **filters: Any) -> list[LabelSetBrief]:
        """Return at most `limit` of the newest label sets, without their labels, newest first; `ref` is a filter."""
        return self._items(LabelSetBrief, "/v1/label-sets", limit, **filters)

    # -- patches and jobs ---------------------------------------------------------------------------------------

    def create_patch(self, idempotency_key: str | None = None, **request: Any) -> PatchStarted:
        """Return the new patch and its job, as `{"patch": …, "job": …}`.

        Args:
            idempotency_key: The same request with the same key returns the same patch; default: a new key, so that a
                request whose response was lost is retried.
            **request: Body of `POST /v1/patches`: `name`, `tasks`, `supported`, `transfer`, `finetune`, `alpha`, …
        """
        headers = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
        return PatchStarted(
            self._send("POST", "/v1/patches", may_repeat=True, json=request, headers=headers), self._transport
        )

    def patch(self, patch_id: str) -> Patch:
        """Return a patch, with its report once it is done."""
        return Patch(self._get(f"/v1/patches/{patch_id}"), self._transport)

    def delete_patch(self, patch_id: str) -> None:
        """Delete a patch with its report and its jobs, at once and for good; it must have no versions."""
        self._send("DELETE", f"/v1/patches/{patch_id}")

    def reselect(self, patch_id: str, **request: Any) -> Reselected:
        """Return the version of a finished patch at another alpha, and its validation scores.

        Args:
            patch_id: The patch.
            **request: Body of `POST /v1/patches/{id}/reselect`: `alpha` and optionally `profile`, or `rule` and, for
                `floor`, `max_supported_drop`; optionally `name`.

        Returns:
            `version`, `is_new`, `alpha`, `profile`, `rule`, `reason`, `validation`.
        """
        path = f"/v1/patches/{patch_id}/reselect"
        return Reselected(self._send("POST", path, may_repeat=True, json=request, timeout=_MIX_SECONDS))

    def patches(self, limit: int = 100, **filters: Any) -> list[PatchBrief]:
        """Return at most `limit` patches without reports, newest first.

        Filters are `status` (one or a list), `dataset`, `ref`, `name`, `owner` and `since`.
        """
        return self._items(PatchBrief, "/v1/patches", limit, **filters)

    def job(self, job_id: str) -> JobDetail:
        """Return a job: status, stage, progress, seconds to go, and, once failed, the cause."""
        return JobDetail(self._get(f"/v1/jobs/{job_id}"), self._transport)

    def jobs(self, limit: int = 100, **filters: Any) -> list[NamedJob]:
        """Return jobs, newest first, at most `limit`.

        Filters are `status` (one or a list), `kind`, `ref`, `name` (of what it is about), `owner` and `since`.
        """
        return self._items(NamedJob, "/v1/jobs", limit, **filters)

    def job_events(self, job_id: str, after: int = 0) -> list[JobEvent]:
        """Return the events of a job after event `after`, oldest first."""
        return [JobEvent(each) for each in self._get(f"/v1/jobs/{job_id}/events", after=after)["items"]]

    def follow_job(
        self, job_id: str, after: int = 0, on_update: Callable[[Job], object] | None = None
    ) -> Iterator[JobEvent]:
        """Yield the events of a job after event `after`, as they happen, until it has ended.

        After a broken connection it continues where it was: no event is lost or repeated. Without an event stream it
        polls. `on_update` is called with the job whenever it changed.
        """
        tell = on_update or (lambda job: None)
        outage = self._transport.outage(is_wait=True)
        has_ended = False
        while not has_ended:
            try:
                for each in self._listen(job_id, after):
                    outage.is_over()
                    if "status" in each:
                        has_ended = each["status"] in ENDED
                        tell(Job(each, self._transport))
                    else:
                        after = each["id"]
                        yield JobEvent(each)
                if not has_ended:
                    job = self._transport.send_once("GET", f"/v1/jobs/{job_id}")
                    has_ended = job["status"] in ENDED and not self._page(job_id, after)
                    outage.is_over()
                    if has_ended:
                        tell(Job(job, self._transport))
            except (ApiError, ServiceUnreachableError) as error:
                outage.wait(error)

    def _listen(self, job_id: str, after: int) -> Iterator[JsonObject]:
        """Yield events, and the job whenever it changed, from one connection or, without a stream, a page."""
        try:
            yield from self._transport.events(f"/v1/jobs/{job_id}/events", after)
        except ApiError as error:
            if error.code != "too_many_streams":
                raise
            job = self._transport.send_once("GET", f"/v1/jobs/{job_id}")  # before the page, which then is whole
            while page := self._page(job_id, after):
                yield from page
                after = page[-1]["id"]
            yield job
            time.sleep(_PAGE_SECONDS)

    def _page(self, job_id: str, after: int) -> list[JsonObject]:
        answer = self._transport.send_once("GET", f"/v1/jobs/{job_id}/events", params={"after": after})
        items: list[JsonObject] = answer["items"]
        return items

    def cancel_job(self, job_id: str) -> Job:
        """Return the job, after asking for its end; one that runs stops soon after."""
        return Job(self._send("POST", f"/v1/jobs/{job_id}/cancel"), self._transport)

    def retry_job(self, job_id: str) -> Job:
        """Return a patch's job that failed or was cancelled, queued again; it resumes from its last checkpoint."""
        return Job(self._send("POST", f"/v1/jobs/{job_id}/retry"), self._transport)

    def wait_for_job(
        self,
        job_id: str,
        on_update: Callable[[JobDetail], object] | None = None,
        poll_seconds: float = 0.5,
        timeout: float | None = None,
    ) -> JobDetail:
        """Return the job once it has succeeded; while the service restarts, it keeps trying.

        Args:
            job_id: The job.
            on_update: Called with the job after each poll.
            poll_seconds: Seconds between two polls.
            timeout: Seconds after which to give up; None: never.

        Raises:
            JobFailedError: It failed or was cancelled.
            JobTimeoutError: It still runs after the timeout.
        """
        return wait_for_job(self._transport, job_id, JobDetail, on_update, poll_seconds, timeout)

    # -- versions -----------------------------------------------------------------------------------------------

    def versions(self, limit: int = 100, **filters: Any) -> list[Version]:
        """Return at most `limit` of the newest versions, newest first.

        Filters are `tag`, `trashed`, `alias`, `dataset`, `parent`, `ref`, `name`, `owner` and `since`.
        """
        return self._items(Version, "/v1/versions", limit, **filters)

    def version(self, version_id: int) -> Version:
        """Return a version: its base, its terms, where it came from."""
        return Version(self._get(f"/v1/versions/{version_id}"))

    def compose(self, name: str, terms: Sequence[Mapping[str, Any]], base: str | None = None) -> Version:
        """Return a new version: the base plus what the terms add. Nothing is trained.

        Args:
            name: Display name; need not be unique.
            terms: Each names a `patch`, a `version` or a `task_vector_sha256`, and optionally a `coefficient`.
            base: Reference of the base that all terms must have; default: that of the terms.
        """
        return self._make_version(name, base, terms=[dict(term) for term in terms])

    def remove(self, name: str, version: int, what: Sequence[str], base: str | None = None) -> Version:
        """Return a new version: another one without what some patches added to it. Nothing is trained.

        Args:
            name: Display name; need not be unique.
            version: The version to start from, which stays unchanged.
            what: Ids of patches, or hashes of task vectors.
            base: Reference of the base that the version must have.
        """
        return self._make_version(name, base, from_version=version, remove=list(what))

    def active(self) -> Alias:
        """Return the alias `active`, whose `version` is served."""
        return Alias(self._get("/v1/aliases/active"))

    def activate(
        self, version: int, reason: str = "", alias: str = "active", force: bool = False
    ) -> Alias | AliasApproval:
        """Return the alias; `active` once this version is loaded, verified and served.

        If the service wants another admin to approve the move, return the request of the move instead.

        Args:
            version: The version.
            reason: For the history.
            alias: Which to move; created if needed.
            force: Skip the check of supported tasks; needs a reason.
        """
        body = {"version": version, "reason": reason} | ({"force": True} if force else {})
        answer = self._send("PUT", f"/v1/aliases/{alias}", json=body, timeout=_ACTIVATE_SECONDS)
        return AliasApproval(answer) if "requested_by" in answer else Alias(answer)

    def roll_back(self, reason: str = "", alias: str = "active") -> RolledBackAlias:
        """Return the alias, moved to the version that it named before; a second call moves it one further back."""
        path = f"/v1/aliases/{alias}/rollback"
        return RolledBackAlias(self._send("POST", path, json={"reason": reason}, timeout=_ACTIVATE_SECONDS))

    def approvals(self, alias: str = "active", limit: int = 100) -> list[AliasApproval]:
        """Return the newest requested moves of an alias, with the decisions on them."""
        return self._items(AliasApproval, f"/v1/aliases/{alias}/approvals", limit)

    def approve(self, approval_id: str, reason: str = "", alias: str = "active") -> Alias:
        """Return the alias, moved as another admin requested; needs a key other than theirs."""
        path = f"/v1/aliases/{alias}/approvals/{approval_id}/approve"
        return Alias(self._send("POST", path, json={"reason": reason}, timeout=_ACTIVATE_SECONDS))

    def reject(self, approval_id: str, reason: str = "", alias: str = "active") -> AliasApproval:
        """Return the request of a move, rejected; an own request is withdrawn in this way."""
        path = f"/v1/aliases/{alias}/approvals/{approval_id}/reject"
        return AliasApproval(self._send("POST", path, json={"reason": reason}))

    def alias(self, name: str) -> Alias:
        """Return an alias and the version that it points at."""
        return Alias(self._get(f"/v1/aliases/{name}"))

    def aliases(self) -> list[Alias]:
        """Return every alias, by name."""
        return [Alias(each) for each in self._get("/v1/aliases")["items"]]

    def alias_history(self, alias: str = "active", limit: int = 100) -> list[AliasChange]:
        """Return the newest moves of an alias: when, by whom, from, to, why."""
        return self._items(AliasChange, f"/v1/aliases/{alias}/history", limit)

    # -- the service itself -------------------------------------------------------------------------------------

    def ping(self) -> Mapping[str, str]:
        """Return the headers of the response to a liveness probe, `Date` among them."""
        return self._transport.exchange("GET", "/livez")

    def ready(self) -> Ready:
        """Return the readiness checks; raises `ApiError` while the service cannot classify."""
        return Ready(self._send("GET", "/readyz"))

    def system(self) -> System:
        """Return the software versions, the device, and the served versions."""
        return System(self._get("/v1/system"))

    def bases(self) -> list[Base]:
        """Return the base models of the installation."""
        return [Base(each) for each in self._get("/v1/bases")["items"]]

    def _make_version(self, name: str, base: str | None, **what: Any) -> Version:
        body = {"name": name, **what} | ({} if base is None else {"base": base})
        return Version(self._send("POST", "/v1/versions", json=body, timeout=_MIX_SECONDS))

    def _get(self, path: str, **query: Any) -> JsonObject:
        answer: JsonObject = self._transport.get(path, **query)
        return answer

    def _send(self, method: str, path: str, **options: Any) -> JsonObject:
        answer: JsonObject = self._transport.send(method, path, **options)
        return answer

    def _items(self, kind: type[AnyRecord], path: str, limit: int, /, **query: Any) -> list[AnyRecord]:
        return [kind(each, self._transport) for each in self._transport.items(path, limit, **query)]
