"""Thumbnails of stored pictures, and the responses with them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any

from fastapi import Header, Query, Request, Response

from app.access.callers import turn_of
from app.http.dependencies import provided
from app.pictures.workers import PictureWorkers
from app.runtime.byte_cache import ByteCache
from paint_core.images.decoding import DECODER
from paint_core.images.thumbnails import ENCODER, MEDIA_TYPE, make_thumbnail

CACHE_BYTES = 32 << 20
_CACHED_SECONDS = 7 * 86_400


class ThumbnailSize(IntEnum):
    """Sizes of thumbnails, in pixels: few, so that they can be cached."""

    SMALL = 64
    MEDIUM = 128
    LARGE = 256
    LARGEST = 512


Size = Annotated[
    ThumbnailSize,
    Query(description="Maximum length of the longer side in pixels; smaller images are not enlarged"),
]
IfNoneMatch = Annotated[
    str | None, Header(max_length=1000, description="`ETag` of a stored response; 304 if it is still valid")
]
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {MEDIA_TYPE: {"schema": {"type": "string", "contentMediaType": MEDIA_TYPE}}}},
    304: {"description": "The stored response that `If-None-Match` names is valid"},
}
"""OpenAPI description of a route that returns a thumbnail."""


@dataclass(frozen=True)
class Picture:
    """A stored picture.

    Attributes:
        source: What identifies its bytes for good, such as a hash.
        read: Returns the bytes of the file; blocks.
        decoder: Version of the rules by which its pixels are read.
    """

    source: str
    read: Callable[[], bytes]
    decoder: int = DECODER

    def etag(self, size: int) -> str:
        """Return the entity tag of its thumbnail."""
        named = f"{self.source} {size} {self.decoder} {ENCODER}"
        return f'"{hashlib.sha256(named.encode()).hexdigest()[:32]}"'


class Thumbnails:
    """Makes thumbnails in the threads for pictures, and keeps the last ones.

    Args:
        workers: The threads.
        max_pixels: Limit on width times height of a picture.
        cache_bytes: Size of the cache.
    """

    def __init__(self, workers: PictureWorkers, max_pixels: int, cache_bytes: int = CACHE_BYTES) -> None:
        self._workers = workers
        self._max_pixels = max_pixels
        self._cache: ByteCache[str, bytes] = ByteCache(cache_bytes)

    async def respond(self, request: Request, picture: Picture, size: int, if_none_match: str | None) -> Response:
        """Return the response with a thumbnail, or 304 without decoding anything.

        Raises:
            ImageDecodeError: The picture cannot be read.
            QueueFullError: Too many pictures are waiting.
        """
        etag = picture.etag(size)
        headers = {"ETag": etag, "Cache-Control": f"private, max-age={_CACHED_SECONDS}, immutable"}
        if _names(if_none_match, etag):
            return Response(status_code=304, headers=headers)
        data = self._cache.get(etag)
        if data is None:
            data = await self._workers.run(turn_of(request), lambda: self._make(picture, size))
            self._cache.put(etag, data, len(data))
        headers |= {
            "Content-Disposition": "inline",
            "Content-Security-Policy": "default-src 'none'; sandbox",
        }
        return Response(data, media_type=MEDIA_TYPE, headers=headers)

    def _make(self, picture: Picture, size: int) -> bytes:
        return make_thumbnail(picture.read(), size, max_pixels=self._max_pixels, decoder=picture.decoder)


def _names(if_none_match: str | None, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag in tags or "*" in tags


ThumbnailsDep = Annotated[Thumbnails, provided(Thumbnails)]
