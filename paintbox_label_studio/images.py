"""Images of tasks: from Label Studio, from the folder of its local storage, or from hosts that the operator allows.

Tasks come from whoever may import data into Label Studio. An address in a task is never followed elsewhere: only the
configured origins are asked, redirects are checked like addresses, and files are read below the configured folder.
"""

from __future__ import annotations

import stat
import time
from pathlib import Path
from urllib.parse import parse_qs

import httpx2

from paintbox_client import InputError
from paintbox_label_studio.settings import Settings, origin_of

_LOCAL = "/data/local-files/"
_REFRESH = "/api/token/refresh"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 3
_TIMEOUT = httpx2.Timeout(30.0, connect=5.0)
_FETCH_SECONDS = 60.0
_ACCESS_SECONDS = 240.0  # access tokens of Label Studio live five minutes


class ImageError(InputError):
    """An image that may not or cannot be read."""


class Images:
    """Reads the images of tasks.

    Args:
        settings: Which places may be read.
        transport: An HTTP transport; None: the network.
    """

    def __init__(self, settings: Settings, transport: httpx2.BaseTransport | None = None) -> None:
        self._settings = settings
        self._own = origin_of(settings.label_studio)
        self._others = frozenset(map(origin_of, settings.image_hosts))
        self._http = httpx2.Client(timeout=_TIMEOUT, transport=transport, follow_redirects=False)
        self._access: tuple[str, float] | None = None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def read(self, address: object) -> bytes:
        """Return the bytes of an image that a task names.

        Args:
            address: A path of Label Studio, such as `/data/upload/1/a.jpg`, or a URL.

        Raises:
            ImageError: It may not be read, is missing, or is too large.
        """
        if not isinstance(address, str) or not address.strip():
            raise ImageError("The task has no image.", "Check the name of the image's field in the data.")
        if not address.startswith("/") or address.startswith("//"):
            return self._fetch(address)
        path, _, query = address.partition("?")
        if self._settings.local_files is not None and path == _LOCAL:
            return self._read_file(self._settings.local_files, parse_qs(query).get("d", [""])[0])
        return self._fetch(self._settings.label_studio.rstrip("/") + address)

    def _read_file(self, root: Path, name: str) -> bytes:
        try:
            path = (root / name).resolve(strict=True)
            inside = path.is_relative_to(root.resolve()) and not Path(name).is_absolute()
            if not inside or not stat.S_ISREG(path.stat().st_mode):
                raise ImageError(f"{name[:200]!r} is not a file below the folder of local files.", "Correct the task.")
            if path.stat().st_size > self._settings.max_image_bytes:
                raise ImageError(f"{name[:200]!r} is too large.", self._limit())
            return path.read_bytes()
        except (OSError, ValueError) as error:
            raise ImageError(
                f"{name[:200]!r} cannot be read from the folder of local files.", str(error)[:200]
            ) from error

    def _fetch(self, url: str) -> bytes:
        for _ in range(_MAX_REDIRECTS + 1):
            is_own = self._check(url)
            headers = {"Authorization": self._authorization()} if is_own and self._settings.token else {}
            try:
                with self._http.stream("GET", url, headers=headers) as response:
                    if response.status_code not in _REDIRECTS:
                        return self._receive(url, response)
                    url = str(response.url.join(response.headers.get("Location", "")))
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                raise ImageError(
                    f"{_shown(url)} cannot be fetched: {error}.", "Check the address of Label Studio."
                ) from error
        raise ImageError(f"{_shown(url)} redirects too often.", "Correct the task.")

    def _check(self, url: str) -> bool:
        """Return whether a URL is Label Studio's own; refuse it if it is of an origin that was not allowed."""
        try:
            origin = origin_of(url)
        except InputError as error:
            raise ImageError(f"{_shown(url)} is not fetched: it is no HTTP address.", error.next) from error
        if origin != self._own and origin not in self._others:
            host = f"{origin[0]}://{origin[1]}:{origin[2]}"
            raise ImageError(
                f"{_shown(url)} is not fetched: {host} is not allowed.", f"Allow it with --image-host {host}."
            )
        return origin == self._own

    def _receive(self, url: str, response: httpx2.Response) -> bytes:
        if response.status_code != httpx2.codes.OK:
            raise ImageError(
                f"{_shown(url)} was answered with status {response.status_code}.", "Check the token and the task."
            )
        content = bytearray()
        started = time.monotonic()
        for part in response.iter_bytes():
            content += part
            if len(content) > self._settings.max_image_bytes:
                raise ImageError(f"{_shown(url)} is too large.", self._limit())
            if time.monotonic() - started > _FETCH_SECONDS:
                raise ImageError(f"{_shown(url)} took longer than {_FETCH_SECONDS:.0f} s.", "Try again.")
        return bytes(content)

    def _authorization(self) -> str:
        """Return the header of a legacy token, or of the access token that a personal one, a JWT, is exchanged for."""
        token = self._settings.token or ""
        if token.count(".") != 2:
            return f"Token {token}"
        if self._access is None or self._access[1] < time.monotonic():
            response = self._http.post(self._settings.label_studio.rstrip("/") + _REFRESH, json={"refresh": token})
            if response.status_code != httpx2.codes.OK:
                raise ImageError("Label Studio rejects the token.", "Create another one in the account's settings.")
            self._access = str(response.json().get("access")), time.monotonic() + _ACCESS_SECONDS
        return f"Bearer {self._access[0]}"

    def _limit(self) -> str:
        return f"The limit is {self._settings.max_image_bytes:,} bytes."


def _shown(url: str) -> str:
    """Return a URL for messages, without its query, which may hold a signature."""
    return repr(url.partition("?")[0][:200])
