"""Requests as bytes, encoded once and sent many times, so that the client costs the server's cores next to nothing."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_BOUNDARY = b"paintbox-benchmark-7d1c0f"
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_SIDES = (320, 500, 800, 1200, 2000)


def find_photos(folder: Path | None, checkout: Path) -> tuple[list[bytes], str]:
    """Return photographs and where they come from.

    Args:
        folder: Their folder; None: `../shared/data/photos` beside the checkout, or scikit-learn's two sample images.
        checkout: The top of the checkout.

    Returns:
        The files' bytes, in the order of their names, and a few words about them.

    Raises:
        SystemExit: The folder holds none.
    """
    chosen = folder or checkout.parent / "shared" / "data" / "photos"
    paths = sorted(path for path in chosen.glob("*") if path.suffix.lower() in _SUFFIXES)
    if paths:
        return [path.read_bytes() for path in paths], f"{len(paths)} files of {chosen.name}/"
    if folder is not None:
        raise SystemExit(f"{folder} holds no photographs: name a folder of JPEG, PNG or WebP files with --photos")
    return sample_photos(), f"scikit-learn's two sample images at {len(_SIDES)} sizes"


def sample_photos() -> list[bytes]:
    """Return the two photographs that scikit-learn carries, as JPEG files with long sides of 320 to 2000 pixels."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    files = []
    for pixels, side in itertools.product(load_sample_images().images, _SIDES):
        picture = Image.fromarray(pixels)
        size = (side, side * picture.height // picture.width)
        buffer = io.BytesIO()
        picture.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def group(photos: Sequence[bytes], size: int) -> Iterator[list[bytes]]:
    """Yield as many groups as there are photographs, or a quarter of it if they are large, each starting elsewhere."""
    for start in range(0, len(photos), max(1, size // 4)):
        yield [photos[(start + offset) % len(photos)] for offset in range(size)]


def post_images(path: str, field: str, images: Sequence[bytes], fields: Mapping[str, str]) -> bytes:
    """Return a POST of images and text fields as multipart/form-data, head and body.

    Args:
        path: Path of the URL.
        field: Name of the images' field.
        images: Encoded images.
        fields: Text fields by name.
    """
    parts = [_part(f'name="{name}"', b"", value.encode()) for name, value in fields.items()]
    for index, image in enumerate(images):
        disposition = f'name="{field}"; filename="{index}.jpg"'
        parts.append(_part(disposition, b"Content-Type: image/jpeg\r\n", image))
    body = b"".join(parts) + b"--" + _BOUNDARY + b"--\r\n"
    return post(path, f"multipart/form-data; boundary={_BOUNDARY.decode()}", body)


def post(path: str, content_type: str, body: bytes) -> bytes:
    """Return a POST, head and body."""
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Accept: application/json",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _part(disposition: str, headers: bytes, content: bytes) -> bytes:
    head = b"--" + _BOUNDARY + b"\r\nContent-Disposition: form-data; " + disposition.encode() + b"\r\n"
    return head + headers + b"\r\n" + content + b"\r\n"
