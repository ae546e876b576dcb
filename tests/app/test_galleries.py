"""The images of data sets over HTTP: pages, and thumbnails that a browser may keep."""

import asyncio
import io
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from httpx2 import Response
from PIL import Image

from app.http.errors import QueueFullError
from app.pictures.workers import PictureWorkers
from contract.datasets import DatasetKind
from registry.datasets import Datasets
from registry.paging import encode_cursor
from tests.app.galleries import Row, add_stored_dataset
from tests.app.world import World, add_ready_dataset, check_problem
from tests.builders import digit_pngs

CLASSES = ("zero", "one", "two")
NUM_TRAIN = 300
HOSTILE_NAME = "<img src=x onerror=alert(1)>\u202egnp.exe"


def _rows(count: int) -> Iterator[Row]:
    for number in range(count):
        yield digit_pngs(number % 3)[number // 3], f"{number}.png", number % 3


@pytest.fixture(scope="module")
def dataset(world: World) -> str:
    test = [*_rows(4), (b"no picture", HOSTILE_NAME, 0)]
    return add_stored_dataset(world.services, CLASSES, {"train": list(_rows(NUM_TRAIN)), "test": test})


def ask(world: World, dataset: str, path: str = "", **options: Any) -> Response:
    return world.client.get(f"/v1/datasets/{dataset}/images{path}", **options)


def collect(world: World, dataset: str, **query: Any) -> list[dict[str, Any]]:
    """The items of all pages."""
    items: list[dict[str, Any]] = []
    while True:
        page = ask(world, dataset, params=query).json()
        items += page["items"]
        assert len(page["items"]) <= query["limit"]
        if page["next_cursor"] is None:
            assert len(items) == page["total"]
            return items
        query["cursor"] = page["next_cursor"]


@pytest.mark.parametrize("limit", [7, 150, 1000])
def test_pages_join_to_all_images_in_the_order_of_splits_and_rows(world: World, dataset: str, limit: int) -> None:
    items = collect(world, dataset, limit=limit)
    rows = [("train", row) for row in range(NUM_TRAIN)] + [("test", row) for row in range(5)]
    assert [(each["split"], each["row"]) for each in items] == rows
    assert items[4] == {
        "split": "train", "row": 4, "file": "4.png", "label": "one",
        "thumbnail": f"/v1/datasets/{dataset}/images/train/4",
    }  # fmt: skip


@pytest.mark.parametrize("limit", [1, 33, 1000])
def test_filters_choose_a_split_and_a_class(world: World, dataset: str, limit: int) -> None:
    items = collect(world, dataset, split="train", label="two", limit=limit)
    assert [each["row"] for each in items] == list(range(2, NUM_TRAIN, 3))
    assert [each["row"] for each in collect(world, dataset, split="test", limit=limit)] == [0, 1, 2, 3, 4]
    both = collect(world, dataset, label="zero", limit=limit)
    assert [each["split"] for each in both] == ["train"] * 100 + ["test"] * 3


@pytest.mark.parametrize("limit", [1, 1000])
def test_a_file_is_found_by_its_path(world: World, dataset: str, limit: int) -> None:
    items = collect(world, dataset, file="2.png", limit=limit)
    assert [(each["split"], each["row"]) for each in items] == [("train", 2), ("test", 2)]
    assert collect(world, dataset, file="2.png", label="one", limit=limit) == []
    assert collect(world, dataset, file="2", limit=limit) == []


def test_a_name_that_commands_a_page_or_a_terminal_is_only_text(world: World, dataset: str) -> None:
    (item,) = ask(world, dataset, params={"split": "test", "label": "zero", "limit": 1000}).json()["items"][-1:]
    assert item["file"].startswith("<img src=x")
    assert "\u202e" not in item["file"]


def test_a_thumbnail_is_made_here_and_may_be_kept(world: World, dataset: str) -> None:
    response = ask(world, dataset, "/train/4", params={"size": 64})
    assert (response.status_code, response.headers["content-type"]) == (200, "image/webp")
    with Image.open(io.BytesIO(response.content), formats=["WEBP"]) as image:
        assert image.size == (8, 8)
    headers = response.headers
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert headers["content-disposition"] == "inline"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "private, max-age=604800, immutable"
    for known in (headers["etag"], f'"other", W/{headers["etag"]}', "*"):
        again = ask(world, dataset, "/train/4", params={"size": 64}, headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", headers["etag"])
    tags = {ask(world, dataset, f"/train/{row}", params={"size": size}).headers["etag"] for row, size in
            ((4, 64), (4, 128), (5, 64), (5, 128))}  # fmt: skip
    assert len(tags) == 4


def test_what_is_not_there_is_told(world: World, dataset: str) -> None:
    for path in ("/test/5", "/validation/0"):
        check_problem(ask(world, dataset, path), 404, "not_found")
    for path, query in (
        ("/trian/0", {}), ("/train/-1", {}), ("/train/x", {}), ("/train/0", {"size": "100"}),
        ("", {"split": "validation"}), ("", {"label": "three"}), ("", {"limit": 1001}),
    ):  # fmt: skip
        check_problem(ask(world, dataset, path, params=query), 422, "invalid_request")
    check_problem(ask(world, dataset, params={"cursor": "x"}), 422, "bad_cursor")
    for split, row in ((-1, -1), (0, -(10**9)), (0, 10**9), (3, 0)):  # of a client that makes its own
        cursor = encode_cursor("images", [split, row])
        for label in ({}, {"label": "zero"}):
            assert ask(world, dataset, params={"cursor": cursor, "split": "train", **label}).status_code == 200
    for path in ("", "/train/0"):
        check_problem(ask(world, "ds_none", path), 404, "not_found")


def test_a_row_that_cannot_be_read_says_so(world: World, dataset: str) -> None:
    problem = check_problem(ask(world, dataset, "/test/4"), 422, "image_undecodable")
    assert "not a readable image" in problem["detail"]


def test_a_pool_has_images_without_labels(world: World) -> None:
    pool = add_stored_dataset(world.services, (), {"train": [(digit_pngs(1)[0], "a/b.png", 0)]}, DatasetKind.POOL)
    page = ask(world, pool).json()
    assert [(each["file"], each["label"]) for each in page["items"]] == [("a/b.png", None)]
    check_problem(ask(world, pool, params={"label": "zero"}), 422, "invalid_request")
    assert ask(world, pool, "/train/0").status_code == 200


def test_a_data_set_and_a_patch_get_other_names_and_stay_what_they_are(world: World) -> None:
    task = add_ready_dataset(world.services, ["a", "b"], splits=("train", "validation", "test"))
    patch = world.client.post("/v1/patches", json={"name": "p", "tasks": [task]}).json()["patch"]
    for path in (f"/v1/datasets/{task}", f"/v1/patches/{patch['id']}"):
        before = world.client.get(path).json()
        renamed = world.client.patch(path, json={"name": "another name"})
        assert (renamed.status_code, renamed.json()) == (200, before | {"name": "another name"})
        assert world.client.get(path).json() == renamed.json()
        check_problem(world.client.patch(path, json={"name": "another", "owner": "me"}), 422, "invalid_request")
        check_problem(world.client.patch(f"{path}x", json={"name": "another name"}), 404, "not_found")


def test_a_data_set_that_is_not_ready_has_none(world: World) -> None:
    identifier = add_ready_dataset(world.services, ["a"])
    with world.services.database.write() as session:
        Datasets(session).get(identifier).state = "ingesting"
    for path in ("", "/train/0"):
        check_problem(ask(world, identifier, path), 409, "dataset_not_ready")


def test_who_asks_for_too_many_pictures_at_once_is_refused_and_others_are_served() -> None:
    async def fill() -> None:
        workers, may_go_on = PictureWorkers(num_threads=1, max_waiting=4), threading.Event()
        try:
            waiting = [asyncio.create_task(workers.run("greedy", may_go_on.wait)) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(QueueFullError) as refused:
                await workers.run("greedy", may_go_on.wait)
            assert refused.value.retry_after_seconds == 1
            waiting.append(asyncio.create_task(workers.run("another", may_go_on.wait)))
            await asyncio.sleep(0)
            may_go_on.set()
            assert await asyncio.gather(*waiting) == [True] * 3
            assert await workers.run("greedy", lambda: 3) == 3
        finally:
            workers.close()

    asyncio.run(fill())
