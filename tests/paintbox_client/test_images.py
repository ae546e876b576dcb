"""Images as programs have them: each kind is sent as the picture that it is, any number of them."""

import io
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image as PILImage

from paintbox_client import ApiError, Client, InputError
from paintbox_client.discovery import DEFAULT_URL
from paintbox_client.images import BATCH_IMAGES, batches, read_image
from tests.builders import digit_pngs
from tests.paintbox_client.conftest import Served
from tests.paintbox_client.inside import run

PNG = digit_pngs(0)[0]
LABELS = ["digit zero", "digit one"]
PROBLEM = {"code": "rate_limited", "detail": "Too many requests.", "next": "Wait.", "status": 429}


def pixels(content: bytes) -> Any:
    with PILImage.open(io.BytesIO(content)) as image:
        return np.asarray(image)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4)])
def test_an_array_is_sent_as_the_picture_that_it_is(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for given in (array, array[::-1, ::-1], np.asfortranarray(array)):
        _, content = read_image(0, given)
        assert np.array_equal(pixels(content), given.squeeze(-1) if shape[2:] == (1,) else given)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr", "F"])
def test_a_picture_of_every_mode_of_pil_can_be_sent(mode: str) -> None:
    image = PILImage.new("L", (6, 4), 100).convert(mode) if mode != "I;16" else PILImage.new(mode, (6, 4))
    _, content = read_image(0, image)
    assert pixels(content).shape[:2] == (4, 6)


def test_a_picture_keeps_its_orientation(tmp_path: Path) -> None:
    exif = PILImage.Exif()
    exif[0x0112] = 6
    PILImage.new("RGB", (6, 4)).save(tmp_path / "turned.jpg", exif=exif)
    with PILImage.open(tmp_path / "turned.jpg") as image:
        _, content = read_image(0, image)
    with PILImage.open(io.BytesIO(content)) as sent:
        assert sent.getexif()[0x0112] == 6


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("no/such.jpg", "'no/such.jpg' cannot be read"),
        ("https://example.org/a.jpg", "is a URL; URLs are not read"),
        ("s3://bucket/a.jpg", "is a URL"),
        ("data:image/png;base64,iVBOR", "is a URL"),
        (5, "unsupported type int"),
        (np.zeros((4, 4)), "type float64"),
        (np.zeros((4, 4, 2), np.uint8), "shape"),
        (np.zeros((0, 4), np.uint8), "shape"),
        ("\x00", "cannot be read"),
    ],
)
def test_what_cannot_be_sent_is_refused_here(image: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_image(0, image)


def test_any_number_of_images_is_cut_into_requests() -> None:
    def many() -> Iterator[bytes]:
        yield from (b"x" for _ in range(2 * BATCH_IMAGES + 1))

    assert [len(batch) for batch in batches(many())] == [BATCH_IMAGES, BATCH_IMAGES, 1]
    assert [len(batch) for batch in batches([bytes(20 << 20)] * 3)] == [1, 1, 1]
    assert [len(batch) for batch in batches(np.zeros((3, 4, 4, 3), np.uint8))] == [3]
    with pytest.raises(InputError, match="No image"):
        list(batches([]))


def test_every_kind_of_image_gets_the_same_answer(served: Served, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    with PILImage.open(io.BytesIO(PNG)) as image:
        image.load()
    kinds = [str(tmp_path / "a.png"), tmp_path / "a.png", PNG, bytearray(PNG), image, np.asarray(image)]
    together = served.client.classify(kinds, LABELS)["results"]
    assert [each["index"] for each in together] == list(range(len(kinds)))
    alone = [served.client.classify(kind, LABELS)["results"] for kind in kinds]
    assert all(results == alone[0] and len(results) == 1 for results in alone)
    assert len(served.client.embed(kinds)["embeddings"]) == len(kinds)
    with pytest.raises(InputError, match="one text"):
        served.client.classify(PNG, "cat,dog")


def test_more_images_than_a_request_may_have_are_classified(served: Served, tmp_path: Path) -> None:
    number = BATCH_IMAGES + 2
    answer = served.client.classify([PNG] * number, LABELS, top_k=1)
    assert [each["index"] for each in answer["results"]] == list(range(number))
    assert answer["alias"] == "active"
    for index in range(number):
        (tmp_path / f"{index:03}.png").write_bytes(PNG)
    shown = run("--url", served.url, "classify", tmp_path, "--label", "a", "--label", "b", "--top-k", 1)
    assert len(shown.out.splitlines()) == number + 1, shown.err
    one = run("--url", served.url, "classify", tmp_path / "000.png", "--label", "circle,square")
    assert one.err.count("Warning") == 2


def test_many_images_are_sent_at_the_same_time_and_answered_in_their_order_by_one_version() -> None:
    number, most = 5 * BATCH_IMAGES, 3
    lock = threading.Lock()
    slow, later = threading.Event(), threading.Event()  # set once the second batch has come, and one after it
    running, together = 0, list[int]()
    versions: list[bool] = []
    refused: list[bool] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        nonlocal running
        body = request.read()
        first, second = b"image-0" in body, b"image-64" in body
        assert first or second or slow.wait(60)
        with lock:
            running += 1
            together.append(running)
        if second:  # takes longer than one after it
            slow.set()
            assert later.wait(60)
        elif not first:
            later.set()
        with lock:
            running -= 1
        if b"image-128" in body and not refused:
            refused.append(True)
            return httpx2.Response(429, headers={"Retry-After": "0"}, json=PROBLEM)
        versions.append(b'name="version"\r\n\r\n7' in body)
        names = re.findall(rb"image-(\d+)", body)
        results = [{"index": at, "predictions": [{"label": name.decode()}]} for at, name in enumerate(names)]
        return httpx2.Response(200, json={"version": 7, "results": results, "timing_ms": {"total": 1.0}})

    with Client("http://127.0.0.1:1", transport=httpx2.MockTransport(answer), max_parallel=most) as client:
        given = client.classify((PNG for _ in range(number)), ["too many", "b"])
    assert [each.predictions[0].label for each in given.results] == [str(at) for at in range(number)]
    assert [each.index for each in given.results] == list(range(number))
    assert given.timing_ms == {"total": 5.0}
    assert 1 < max(together) <= most
    assert len(together) == 6, "the refused batch was sent again"
    assert versions == [False] + 4 * [True]


def test_a_batch_that_is_refused_ends_the_call(served: Served) -> None:
    images = [PNG] * BATCH_IMAGES + [b"no image"] + [PNG] * BATCH_IMAGES
    with pytest.raises(ApiError) as refused:
        served.client.classify(images, LABELS)
    assert refused.value.status == 415 or refused.value.status == 422


def test_a_client_without_arguments_finds_its_service(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json
    import os

    for name in ("PAINTBOX_URL", "PAINTBOX_DATA_DIR", "PAINTBOX_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert Client().url == DEFAULT_URL
    pointers, elsewhere = tmp_path / "state" / "paintbox" / "services", tmp_path / "elsewhere"
    for folder in (pointers, elsewhere):
        folder.mkdir(parents=True)
    (elsewhere / "service.json").write_text(json.dumps({"url": served.url, "pid": os.getpid()}))
    (pointers / "a").write_text(str(elsewhere))
    (pointers / "stale").write_text(str(tmp_path / "gone"))
    (pointers / "broken").write_bytes(b"\xff\x00")
    with Client() as client:
        assert client.url == served.url
        assert client.ready()["status"] == "ok"
    other = tmp_path / "other"
    other.mkdir()
    (other / "service.json").write_text(json.dumps({"url": "http://127.0.0.1:9", "pid": os.getpid()}))
    (pointers / "b").write_text(str(other))
    with pytest.raises(InputError, match="Several services are running"):
        Client()
    monkeypatch.setenv("PAINTBOX_URL", "http://127.0.0.1:7")
    assert Client().url == "http://127.0.0.1:7"
    assert Client(served.url).url == served.url
