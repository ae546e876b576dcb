"""A large file goes in parts, and a connection that breaks costs one of them."""

import io
import random
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from paintbox_client.client import Client
from paintbox_client.errors import ApiError, ServiceUnreachableError
from paintbox_client.outages import Patience
from paintbox_client.resumable import send_in_parts
from paintbox_client.transport import Transport
from tests.builders import digit_pngs, write_zip
from tests.paintbox_client.conftest import Served

DATA = random.Random(0).randbytes(10_000)


class Flaky(httpx2.BaseTransport):
    """Loses requests on their way, or the answers to them, as it is told: one word a request."""

    def __init__(self, words: Iterator[str]) -> None:
        self._words = words
        self._inner = httpx2.HTTPTransport()
        self.num_requests = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.num_requests += 1
        word = next(self._words, "send")
        if word == "lose":
            raise httpx2.ConnectError("lost on the way", request=request)
        if word.isdecimal():
            return httpx2.Response(int(word), headers={"Retry-After": "0"}, text="something in front", request=request)
        response = self._inner.handle_request(request)
        if word == "drop":
            response.read()
            response.close()
            raise httpx2.ReadError("the answer was lost", request=request)
        return response

    def close(self) -> None:
        self._inner.close()


def send(served: Served, words: list[str], wait_seconds: float = 60.0) -> tuple[bytes, int]:
    """What the service holds in the end, and how many requests it took."""
    flaky = Flaky(iter(words))
    patience = Patience(wait_seconds, min(wait_seconds, 30.0), sleep=lambda _: None)
    transport = Transport(served.url, None, flaky, 10, patience)
    try:
        identifier = send_in_parts(transport, io.BytesIO(DATA), 1000)
    finally:
        transport.close()
    (path,) = served.world.services.settings.upload_dir.glob(f"{identifier}.*")
    content = path.read_bytes()
    path.unlink()
    return content, flaky.num_requests


def test_a_file_arrives_in_parts(served: Served) -> None:
    assert send(served, []) == (DATA, 11)


def test_lost_requests_and_lost_answers_are_made_good(served: Served) -> None:
    words = random.Random(1).choices(["send", "lose", "drop", "502", "503", "429", "408"], k=60)
    content, num_requests = send(served, ["send", *words])
    assert content == DATA
    assert num_requests > 11


def test_a_service_that_stays_away_is_given_up(served: Served) -> None:
    with pytest.raises(ServiceUnreachableError):
        send(served, ["send", "send"] + ["lose"] * 100_000, wait_seconds=0.5)


def test_a_refusal_ends_it_at_once(served: Served) -> None:
    transport = Transport(served.url, None, None, 10)

    class Endless(io.BytesIO):
        def seek(self, offset: int, whence: int = 0) -> int:
            return 1 << 50 if whence == 2 else super().seek(offset, whence)

    with pytest.raises(ApiError, match="limit"):
        send_in_parts(transport, Endless())
    transport.close()


class Elsewhere(httpx2.BaseTransport):
    """Parts reach another API process than the one that the upload was begun at."""

    def __init__(self) -> None:
        self._inner = httpx2.HTTPTransport()
        self.paths: list[str] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.paths.append(f"{request.method} {request.url.path}")
        if request.method == "PATCH":
            problem = {"code": "upload_elsewhere", "detail": "Another process may have it.", "next": "Share a folder."}
            return httpx2.Response(409, json=problem, request=request)
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


def test_where_parts_reach_several_processes_the_file_is_sent_at_once(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paintbox_client.dataset_calls._SENT_AT_ONCE_BYTES", 100)
    members = {f"{name}/{number}.png": digit_pngs(number)[0] for name in "ab" for number in range(2)}
    archive = write_zip(tmp_path / "x.zip", members)
    transport = Elsewhere()
    with Client(served.url, transport=transport) as client:
        made = client.upload_dataset(archive, "at once")
    assert made["state"] == "ingesting"
    assert transport.paths[0] == "POST /v1/uploads"
    assert transport.paths[-1] == "POST /v1/datasets"
