"""Requests with images, in each of the forms that the service reads."""

import base64
from collections.abc import Callable, Sequence
from typing import Any

from httpx2 import Response
from starlette.testclient import TestClient

Post = Callable[..., Response]


def post_files(client: TestClient, path: str, images: Sequence[bytes], **options: Any) -> Response:
    """The answer to a form."""
    return client.post(path, files=[("images", ("image.png", image)) for image in images], data=options)


def post_json(client: TestClient, path: str, images: Sequence[bytes], **options: Any) -> Response:
    """The answer to JSON."""
    encoded = [base64.b64encode(image).decode() for image in images]
    return client.post(path, json={"images": encoded, **options})


def post_raw(
    client: TestClient, path: str, images: Sequence[bytes], media_type: str = "image/png", **options: Any
) -> Response:
    """The answer to one image as the body."""
    (image,) = images
    return client.post(path, content=image, params=options, headers={"content-type": media_type})


POSTS = (post_files, post_json, post_raw)
