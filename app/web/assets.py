"""Style sheets and scripts of the pages, served under a name that changes with their contents."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fastapi import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.http.links import link_to

PATH = "/ui/static"
_MEDIA_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True)
class Asset:
    """A file that pages load.

    Attributes:
        content: Its bytes.
        compressed: The same, compressed by gzip.
        media_type: By its suffix.
    """

    content: bytes
    compressed: bytes
    media_type: str


@cache
def load_assets() -> Mapping[str, Asset]:
    """Return the files of the pages by name."""
    found = {}
    for file in sorted(files("app.web").joinpath("static").iterdir(), key=lambda each: each.name):
        media_type = _MEDIA_TYPES.get(file.name.rpartition(".")[2])
        if media_type is not None:
            content = file.read_bytes()
            found[file.name] = Asset(content, gzip.compress(content, mtime=0), media_type)
    return found


@cache
def digest() -> str:
    """Return a hash of all files, which is part of their addresses: a new release is loaded at once."""
    whole = hashlib.sha256()
    for name, asset in load_assets().items():
        whole.update(name.encode() + b"\0" + asset.content)
    return whole.hexdigest()[:16]


def asset_url(name: str) -> str:
    """Return the address of a file; scripts import each other by relative names."""
    return link_to(f"{PATH}/{digest()}/{name}")


async def send_asset(request: Request) -> Response:
    """Return a file; its address is never used for other contents, so it may be kept for a year."""
    asset = load_assets().get(request.path_params["name"])
    if asset is None or request.path_params["digest"] != digest():
        raise HTTPException(404)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(asset.compressed, headers={**_HEADERS, "Content-Encoding": "gzip"}, media_type=asset.media_type)
    return Response(asset.content, headers=_HEADERS, media_type=asset.media_type)
