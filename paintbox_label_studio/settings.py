"""Settings of the backend, from the options of its command."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from paintbox_client import InputError

Origin = tuple[str, str, int]
"""Scheme, host and port."""

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Settings:
    """How the backend reaches Label Studio, and what it answers.

    Attributes:
        label_studio: Address of Label Studio, such as `http://localhost:8080`; images are fetched from there only.
        token: Token of a user of Label Studio, sent to `label_studio` only; None: none.
        local_files: Folder of Label Studio's local storage on this machine (`LOCAL_FILES_DOCUMENT_ROOT`); images that
            `/data/local-files/` names are read from it. None: they are fetched from Label Studio.
        image_hosts: Other origins that images may come from, without the token, such as that of a bucket.
        version: Id or alias of the version that answers.
        templates: Prompts with `{}`; empty: the service's own.
        sends_all: Whether annotations that agree with the version are sent as feedback too.
        password: `(user, password)` that Label Studio sends; None: anyone may ask.
        max_image_bytes: Largest image that is read.
    """

    label_studio: str
    token: str | None = field(default=None, repr=False)
    local_files: Path | None = None
    image_hosts: Collection[str] = ()
    version: str = "active"
    templates: tuple[str, ...] = ()
    sends_all: bool = False
    password: tuple[str, str] | None = field(default=None, repr=False)
    max_image_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        """Check the addresses.

        Raises:
            InputError: One is not an HTTP address, or the folder does not exist.
        """
        for address in (self.label_studio, *self.image_hosts):
            origin_of(address)
        if self.local_files is not None and not self.local_files.is_dir():
            raise InputError(f"No such folder: {str(self.local_files)[:200]!r}.", "Name the root of the local storage.")


def origin_of(address: str) -> Origin:
    """Return the origin of an HTTP address.

    Raises:
        InputError: It is not an HTTP address.
    """
    try:
        url = httpx2.URL(address)  # parsed by what fetches it, so that both see the same host
    except (httpx2.InvalidURL, TypeError):
        url = httpx2.URL()
    port = url.port or _PORTS.get(url.scheme)
    if url.scheme in _PORTS and url.host and port and not url.userinfo:
        return url.scheme, url.host.lower(), port
    raise InputError(f"{address[:200]!r} is not an HTTP address.", "Give one such as http://localhost:8080.")
