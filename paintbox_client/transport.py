"""Sends requests, tries those again that may be repeated, and turns refusals into `ApiError`."""

from __future__ import annotations

import ipaddress
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, TypeVar

import httpx2

from paintbox_client.errors import ApiError, InputError, ServiceUnreachableError
from paintbox_client.outages import NOT_OURS, Outage, Patience, parse_retry_after
from paintbox_client.records import JsonObject

DEFAULT_TIMEOUT_SECONDS = 60.0
_CONNECT_SECONDS = 10.0
_NO_CONTENT = 204
_LARGEST_PAGE = 1000
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)

_T = TypeVar("_T")


class Transport:
    """A connection to one service.

    Args:
        url: The service's address, such as `http://127.0.0.1:8321`.
        api_key: Sent as a bearer token.
        transport: An HTTP transport.
        timeout: Seconds without a response.
        patience: How long to retry what may be repeated.
        find_url: Returns where the service of this machine is now, which may be another port after a restart; None: it
            stays where it is.

    Raises:
        ServiceUnreachableError: The address is not an HTTP address.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None,
        transport: httpx2.BaseTransport | None,
        timeout: float | None,
        patience: Patience | None = None,
        find_url: Callable[[], str | None] | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._patience = patience or Patience()
        self._find_url = find_url
        self._has_answered = False
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        try:
            base = httpx2.URL(self.url)
        except httpx2.InvalidURL as error:
            raise ServiceUnreachableError(url, str(error)) from error
        if base.scheme not in ("http", "https") or not base.host:
            raise ServiceUnreachableError(url, "the URL must start with http:// or https://")
        self._http = httpx2.Client(
            base_url=self.url,
            headers=headers,
            transport=transport,
            timeout=httpx2.Timeout(timeout, connect=_CONNECT_SECONDS),
            trust_env=not _is_loopback(base.host),  # a proxy cannot reach this machine's loopback
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON response of a GET."""
        return self.send("GET", path, may_repeat=True, params=query)

    def items(self, path: str, limit: int, /, **query: Any) -> list[Any]:
        """Return at most `limit` items of a list, page by page."""
        items: list[Any] = []
        cursor: JsonObject = {}
        while len(items) < limit:
            page = self.get(path, limit=min(limit - len(items), _LARGEST_PAGE), **query, **cursor)
            items += page["items"]
            if page.get("next_cursor") is None:  # an older service has no pages
                break
            cursor = {"cursor": page["next_cursor"]}
        return items

    def outage(self, *, is_wait: bool, may_repeat: bool = True, limit_seconds: float | None = None) -> Outage:
        """Return the retry policy of one operation; arguments as for `Outage`."""
        return Outage(
            self._patience,
            is_wait=is_wait,
            may_repeat=may_repeat,
            is_known=self._is_known,
            before_retry=self._move,
            limit_seconds=limit_seconds,
        )

    def persist(self, attempt: Callable[[], _T], outage: Outage) -> _T:
        """Return what an attempt returns, retried as long as the outage allows."""
        while True:
            try:
                result = attempt()
            except (ApiError, ServiceUnreachableError) as error:
                outage.wait(error)
            else:
                outage.is_over()
                return result

    def _move(self) -> None:
        """Go where the service of this machine is now, if it says so."""
        found = self._find_url() if self._find_url is not None else None
        if found is not None and found.rstrip("/") != self.url:
            self.url = found.rstrip("/")
            self._http.base_url = httpx2.URL(self.url)

    def _is_known(self) -> bool:
        return self._has_answered or (self._find_url is not None and self._find_url() is not None)

    def events(self, path: str, last_id: int) -> Iterator[Any]:
        """Yield the parsed data of the server-sent events after `last_id`, until either side closes the connection.

        Raises:
            ApiError: The service rejected the request.
            ServiceUnreachableError: Nothing responded, or the connection broke.
        """
        try:
            with self._http.sse(path, headers={"Last-Event-ID": str(last_id)}) as source:
                if source.response.status_code == _NO_CONTENT:
                    return
                if source.response.status_code != httpx2.codes.OK:
                    raise self._refusal(source.response)
                for event in source:
                    if event.data:
                        parsed = _parse_event(event, source.response)
                        self._has_answered = True
                        yield parsed
        except httpx2.RequestError as error:
            raise self._unreachable(error) from error

    @contextmanager
    def download(self, path: str, timeout: float) -> Iterator[IO[bytes]]:
        """Yield the body of a GET as a file that is spooled to disk; a broken download starts again."""
        with tempfile.TemporaryFile() as file:
            self.persist(lambda: self._download_once(path, timeout, file), self.outage(is_wait=True))
            file.seek(0)
            yield file

    def _download_once(self, path: str, timeout: float, file: IO[bytes]) -> None:
        file.seek(0)
        file.truncate()
        try:
            with self._http.stream("GET", path, timeout=timeout) as response:
                if response.status_code != httpx2.codes.OK:
                    raise self._refusal(response)
                self._has_answered = True
                for chunk in response.iter_bytes():
                    file.write(chunk)
        except httpx2.RequestError as error:
            raise self._unreachable(error) from error

    def lines(self, method: str, path: str, timeout: float) -> Iterator[Any]:
        """Yield the JSON values of a response with one per line, as they arrive; the request is not repeated.

        Raises:
            ApiError: The service rejected the request.
            ServiceUnreachableError: Nothing responded, or the connection broke.
        """
        try:
            with self._http.stream(method, path, timeout=timeout) as response:
                if response.status_code != httpx2.codes.OK:
                    raise self._refusal(response)
                for line in response.iter_lines():
                    yield json.loads(line)
        except httpx2.RequestError as error:
            raise self._unreachable(error) from error

    def send(self, method: str, path: str, *, may_repeat: bool = False, **options: Any) -> Any:
        """Return the parsed JSON response of a request; None without a body.

        Args:
            method: HTTP method.
            path: Path below the service's address.
            may_repeat: Whether the request may be sent twice. If not, it is sent again only if the first one cannot
                have been carried out.
            **options: As `httpx2.Client.request` takes them.
        """
        outage = self.outage(is_wait=False, may_repeat=may_repeat)
        return self.persist(lambda: self.send_once(method, path, **options), outage)

    def send_once(self, method: str, path: str, **options: Any) -> Any:
        """Return the JSON response of a request that is sent once; arguments and errors as for `send`."""
        response = self._request(method, path, **options)
        answer = None if response.status_code == _NO_CONTENT else _parse(response)
        self._has_answered = True
        return answer

    def exchange(self, method: str, path: str, **options: Any) -> Mapping[str, str]:
        """Return the headers of the response to a request that is sent once; arguments and errors as for `send`."""
        return self._request(method, path, **options).headers

    def _request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx2.RequestError as error:
            raise self._unreachable(error) from error
        except httpx2.InvalidURL as error:
            raise InputError(f"Invalid path {path!r}: {error}.", "Check the id.") from error
        if response.is_error:
            raise self._refusal(response)
        return response

    def _unreachable(self, error: httpx2.RequestError) -> ServiceUnreachableError:
        was_sent = not isinstance(error, _NOT_SENT)
        timed_out = was_sent and isinstance(error, httpx2.TimeoutException)
        cause = str(error) or type(error).__name__
        return ServiceUnreachableError(self.url, cause, was_sent=was_sent, timed_out=timed_out)

    def _refusal(self, response: httpx2.Response) -> ApiError:
        response.read()
        refusal = _read_refusal(response)
        self._has_answered = self._has_answered or refusal.code != NOT_OURS
        return refusal


def _parse(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise _not_ours(response) from error


def _parse_event(event: httpx2.ServerSentEvent, response: httpx2.Response) -> Any:
    try:
        return event.json()
    except ValueError as error:
        raise _not_ours(response) from error


def _read_refusal(response: httpx2.Response) -> ApiError:
    retry_after = parse_retry_after(response.headers.get("retry-after"))
    if response.request.method == "HEAD":  # whose answers have no body
        advice = "Start over." if response.status_code in (404, 410) else ""
        return ApiError(
            response.status_code, "head_refused", _describe(response) + ".", advice, retry_after_seconds=retry_after
        )
    try:
        problem = response.json()
        fields = [f"{item['location']}: {item['message']}" for item in problem.get("errors") or ()]
        detail = problem["detail"]
        if len(fields) == 1 and detail.rstrip(".") == fields[0].rstrip("."):
            fields = []  # the detail says it
        return ApiError(response.status_code, problem["code"], detail, problem.get("next", ""), fields, retry_after)
    except (ValueError, KeyError, TypeError, AttributeError):
        return _not_ours(response)


def _not_ours(response: httpx2.Response) -> ApiError:
    return ApiError(
        response.status_code,
        NOT_OURS,
        f"{_describe(response)}, which is not a response of Paintbox.",
        "Check that the URL is that of a Paintbox service, and check any proxy in front of it.",
        retry_after_seconds=parse_retry_after(response.headers.get("retry-after")),
    )


def _describe(response: httpx2.Response) -> str:
    return f"{response.url} returned {response.status_code}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
