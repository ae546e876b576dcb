"""Sends requests, retries those that are safe to repeat, and turns refusals into `ApiError`."""

from __future__ import annotations

import ipaddress
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import httpx2

from paintbox_client.errors import ApiError, ServiceUnreachableError

DEFAULT_TIMEOUT_SECONDS = 60.0
_CONNECT_SECONDS = 5.0
_NO_CONTENT = 204
_RETRY_DELAYS_SECONDS = (0.1, 0.3, 0.9)


class Transport:
    """A connection to one service.

    Args:
        url: The service's address, such as `http://127.0.0.1:8321`.
        api_key: Sent as a bearer token, if given.
        transport: Carries the requests; tests pass one that reaches an application in the same process.
        timeout: Seconds that the service may be silent.

    Raises:
        ServiceUnreachableError: The address is no HTTP address.
    """

    def __init__(
        self, url: str, api_key: str | None, transport: httpx2.BaseTransport | None, timeout: float | None
    ) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        try:
            base = httpx2.URL(self.url)
        except httpx2.InvalidURL as error:
            raise ServiceUnreachableError(url, str(error)) from error
        if base.scheme not in ("http", "https") or not base.host:
            raise ServiceUnreachableError(url, "an address starts with http:// or https://")
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
        """Return the JSON answer of a GET, which is sent again if the connection fails."""
        for delay in _RETRY_DELAYS_SECONDS:
            try:
                return self.send("GET", path, params=query)
            except ServiceUnreachableError as error:
                if isinstance(error.__cause__, httpx2.TimeoutException):  # we have waited long enough
                    raise
                time.sleep(delay)
        return self.send("GET", path, params=query)

    def events(self, path: str, last_id: int) -> Iterator[httpx2.ServerSentEvent]:
        """Yield the server-sent events of one connection, until either side closes it.

        Args:
            path: Path below the service's address.
            last_id: The last event that is known already.

        Yields:
            httpx2.ServerSentEvent: In the order in which they came; none if the service says that there will be none.

        Raises:
            ApiError: The service refused.
            ServiceUnreachableError: Nothing answered, or the connection broke.
        """
        try:
            with self._http.sse(path, headers={"Last-Event-ID": str(last_id)}) as source:
                if source.response.is_error:
                    source.response.read()
                    raise _refusal(source.response)
                if source.response.status_code != _NO_CONTENT:
                    yield from source
        except httpx2.TransportError as error:
            raise ServiceUnreachableError(self.url, str(error) or type(error).__name__) from error

    @contextmanager
    def download(self, path: str, timeout: float) -> Iterator[IO[bytes]]:
        """Yield what a GET answers with, as a file that is spooled to disk.

        Args:
            path: Path below the service's address.
            timeout: Seconds that the service may be silent.

        Yields:
            IO[bytes]: All of the body, at its beginning.

        Raises:
            ApiError: The service refused.
            ServiceUnreachableError: Nothing answered, or the connection broke.
        """
        with tempfile.TemporaryFile() as file:
            try:
                with self._http.stream("GET", path, timeout=timeout) as response:
                    if response.is_error:
                        response.read()
                        raise _refusal(response)
                    for chunk in response.iter_bytes():
                        file.write(chunk)
            except httpx2.TransportError as error:
                raise ServiceUnreachableError(self.url, str(error) or type(error).__name__) from error
            file.seek(0)
            yield file

    def send(self, method: str, path: str, **options: Any) -> Any:
        """Return the JSON answer of one request, sent once.

        Args:
            method: HTTP method.
            path: Path below the service's address.
            **options: As `httpx2.Client.request` takes them.

        Returns:
            The parsed body; None if there is none.

        Raises:
            ApiError: The service refused.
            ServiceUnreachableError: Nothing answered, or not in time.
        """
        response = self._request(method, path, **options)
        return None if response.status_code == _NO_CONTENT else _parse(response)

    def exchange(self, method: str, path: str, **options: Any) -> Mapping[str, str]:
        """Return the headers of the answer to one request; arguments and errors as for `send`."""
        return self._request(method, path, **options).headers

    def _request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx2.TransportError as error:
            raise ServiceUnreachableError(self.url, str(error) or type(error).__name__) from error
        if response.is_error:
            raise _refusal(response)
        return response


def _parse(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise _not_ours(response) from error


def _refusal(response: httpx2.Response) -> ApiError:
    try:
        problem = response.json()
        fields = [f"{item['location']}: {item['message']}" for item in problem.get("errors") or ()]
        return ApiError(response.status_code, problem["code"], problem["detail"], problem.get("next", ""), fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        return _not_ours(response)


def _not_ours(response: httpx2.Response) -> ApiError:
    return ApiError(
        response.status_code,
        "unexpected_answer",
        f"{response.url} answered {response.status_code} in a form that is not Paintbox's.",
        "Check that the address is that of a Paintbox service and not of something before it.",
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
