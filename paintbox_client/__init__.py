"""Python client and command line of Paintbox. Needs nothing of the server, and works where only it is installed.

Example:
    with Client("http://127.0.0.1:8321") as client:
        client.classify([Path("photo.jpg")], labels=["a cat", "a dog"])
"""

from paintbox_client.async_client import AsyncClient
from paintbox_client.client import Client
from paintbox_client.errors import (
    ApiError,
    ClientError,
    InputError,
    JobFailedError,
    JobTimeoutError,
    ServiceUnreachableError,
)

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "ClientError",
    "InputError",
    "JobFailedError",
    "JobTimeoutError",
    "ServiceUnreachableError",
]
