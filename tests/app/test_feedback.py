"""Feedback over HTTP: stored once, decided on, shown as thumbnails, and erased with its image."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from registry.errors import BlobMissingError
from registry.feedback import Feedback
from tests.app.asking import POSTS, Post, post_files, post_json
from tests.app.galleries import add_stored_dataset
from tests.app.world import World, check_problem, open_world
from tests.builders import digit_pngs

PATH = "/v1/feedback"
IMAGES = digit_pngs(3)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("feedback"), max_open_feedback=20) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _emptied(world: World) -> Iterator[None]:
    yield
    states = ["open", "accepted", "dismissed", "used"]
    assert world.client.delete(PATH, params={"state": states}).status_code == 200


def send(client: TestClient, image: bytes = IMAGES[0], post: Post = post_json, **fields: Any) -> dict[str, Any]:
    response = post(client, PATH, [image], **fields)
    assert response.status_code in (200, 201), response.text
    stored: dict[str, Any] = response.json()
    return stored


def blob_of(world: World, feedback_id: str) -> str:
    with world.services.database.read() as session:
        return Feedback(session).get(feedback_id).image_sha256


def as_bmp(png: bytes) -> bytes:
    """The same picture in another file."""
    file = io.BytesIO()
    Image.open(io.BytesIO(png)).save(file, "BMP")
    return file.getvalue()


@pytest.mark.parametrize("post", POSTS)
def test_feedback_is_stored_in_every_form_of_a_request(client: TestClient, post: Post) -> None:
    response = post(client, PATH, [IMAGES[0]], label=" three ", predicted="eight", note="smudged")
    assert response.status_code == 201
    stored = response.json()
    assert (stored["label"], stored["predicted"], stored["note"]) == ("three", "eight", "smudged")
    assert (stored["source"], stored["state"], stored["version_id"]) == ("sent", "open", 1)
    assert (stored["num_bytes"], stored["expires_at"], stored["margin"]) == (len(IMAGES[0]), None, None)
    assert response.headers["location"] == f"{PATH}/{stored['id']}"
    assert client.get(response.headers["location"]).json() == stored
    assert client.get(PATH).json()["items"] == [stored]


def test_a_picture_with_the_same_label_is_stored_once_whatever_its_file(client: TestClient) -> None:
    first = post_json(client, PATH, [IMAGES[0]], label="three").json()
    again = post_json(client, PATH, [as_bmp(IMAGES[0])], label="three", note="again")
    assert (again.status_code, again.json()) == (200, first)
    others = [send(client, label="eight"), send(client), send(client, IMAGES[1], label="three")]
    assert len({first["id"], *(each["id"] for each in others)}) == 4
    client.patch(f"{PATH}/{first['id']}", json={"state": "dismissed"})
    assert send(client, label="three")["id"] != first["id"]


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"version": 999}, 404, "not_found"),
        ({"version": "nothing"}, 404, "not_found"),
        ({"sample": "fb_nothing"}, 422, "invalid_request"),
        ({"dataset": "ds_1", "split": "train"}, 422, "invalid_request"),
        ({"label": "x" * 201}, 422, "invalid_request"),
        ({"label": ""}, 422, "invalid_request"),
        ({"candidate_labels": ["a"]}, 422, "invalid_request"),
    ],
)
def test_what_cannot_be_understood_is_refused(client: TestClient, fields: Any, status: int, code: str) -> None:
    check_problem(post_json(client, PATH, [IMAGES[0]], **fields), status, code)
    assert client.get(PATH).json()["items"] == []


def test_an_image_is_checked_before_anything_is_stored(client: TestClient) -> None:
    for image in (b"no image", IMAGES[0][:60]):
        check_problem(post_files(client, PATH, [image], label="three"), 422, "image_undecodable")
    check_problem(client.post(PATH, json={"label": "three"}), 422, "invalid_request")
    check_problem(post_files(client, PATH, [IMAGES[0], IMAGES[1]]), 422, "invalid_request")
    check_problem(post_json(client, PATH, [IMAGES[0] + b"\0" * 20_000_000]), 413, "image_too_large")
    assert client.get(PATH).json()["items"] == []


def test_an_image_of_a_data_set_or_of_other_feedback_needs_no_upload(world: World) -> None:
    client, services = world.client, world.services
    rows = [(image, f"{place}.png", 0) for place, image in enumerate(IMAGES[:3])]
    dataset = add_stored_dataset(services, ["three"], {"train": rows})
    place = {"dataset": dataset, "split": "train", "row": 2}
    stored = client.post(PATH, json=place | {"label": "three"})
    assert stored.status_code == 201, stored.text
    assert stored.json()["origin"] == place
    assert services.blobs.read(blob_of(world, stored.json()["id"])) == IMAGES[2]
    other = client.post(PATH, json={"sample": stored.json()["id"], "label": "eight"})
    assert other.status_code == 201
    assert blob_of(world, other.json()["id"]) == blob_of(world, stored.json()["id"])
    check_problem(client.post(PATH, json=place | {"row": 3}), 404, "not_found")
    check_problem(client.post(PATH, json={"sample": "fb_nothing"}), 404, "not_found")


def test_lists_are_filtered_and_have_pages(client: TestClient) -> None:
    made = [send(client, image, label="three" if place % 2 else None) for place, image in enumerate(IMAGES[:5])]
    client.patch(f"{PATH}/{made[0]['id']}", json={"state": "accepted", "label": "zero"})
    ids = [each["id"] for each in made]

    def listed(**query: Any) -> list[str]:
        return [each["id"] for each in client.get(PATH, params=query).json()["items"]]

    assert listed() == ids[::-1]
    assert listed(label="three") == [ids[3], ids[1]]
    assert listed(labelled=False) == [ids[4], ids[2]]
    assert listed(state=["accepted", "used"]) == [ids[0]]
    assert listed(version=1, source="sent", state="open") == ids[:0:-1]
    assert listed(owner="nobody") == listed(source="shadow") == listed(predicted="three") == []
    page = client.get(PATH, params={"limit": 2}).json()
    rest = client.get(PATH, params={"limit": 9, "cursor": page["next_cursor"]}).json()
    assert [each["id"] for each in page["items"] + rest["items"]] == ids[::-1]


def test_a_decision_changes_what_it_names(client: TestClient) -> None:
    stored = send(client, label="three", note="smudged")
    path = f"{PATH}/{stored['id']}"
    changed = client.patch(path, json={"label": "five", "state": "accepted"}).json()
    assert (changed["label"], changed["state"], changed["note"]) == ("five", "accepted", "smudged")
    assert changed["updated_at"] > stored["updated_at"]
    assert client.patch(path, json={"label": None, "note": None}).json() | {"updated_at": ""} == (
        changed | {"label": None, "note": None, "updated_at": ""}
    )
    for body in ({"state": "used"}, {"state": None}, {"colour": "red"}):
        check_problem(client.patch(path, json=body), 422, "invalid_request")
    check_problem(client.patch(f"{PATH}/fb_nothing", json={"state": "open"}), 404, "not_found")


def test_images_are_shown_as_thumbnails_only(client: TestClient) -> None:
    stored = send(client)
    shown = client.get(stored["thumbnail"], params={"size": 64})
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/webp")
    assert IMAGES[0] not in shown.content
    assert Image.open(io.BytesIO(shown.content)).size == (8, 8)
    again = client.get(stored["thumbnail"], params={"size": 64}, headers={"if-none-match": shown.headers["etag"]})
    assert again.status_code == 304
    check_problem(client.get(f"{PATH}/fb_nothing/image"), 404, "not_found")


def test_an_image_goes_with_the_last_feedback_that_refers_to_it(world: World) -> None:
    client, blobs = world.client, world.services.blobs
    first, second = send(client, label="three"), send(client, label="eight")
    sha256 = blob_of(world, first["id"])
    kept = client.delete(f"{PATH}/{first['id']}").json()
    assert kept == {"deleted": 1, "files_deleted": 0, "datasets": [], "has_more": False}
    assert blobs.read(sha256) == IMAGES[0]
    gone = client.delete(f"{PATH}/{second['id']}").json()
    assert (gone["deleted"], gone["files_deleted"]) == (1, 1)
    with pytest.raises(BlobMissingError):
        blobs.read(sha256)
    check_problem(client.delete(f"{PATH}/{second['id']}"), 404, "not_found")
    assert send(client, label="three")["id"] != first["id"]
    assert blobs.read(sha256) == IMAGES[0]


def test_feedback_is_deleted_by_filter_but_never_without_one(client: TestClient) -> None:
    for place, image in enumerate(IMAGES[:4]):
        send(client, image, label="three" if place else "four")
    check_problem(client.delete(PATH), 422, "invalid_request")
    erased = client.delete(PATH, params={"label": "three"}).json()
    assert erased == {"deleted": 3, "files_deleted": 3, "datasets": [], "has_more": False}
    assert [each["label"] for each in client.get(PATH).json()["items"]] == ["four"]


def test_open_feedback_has_a_limit(client: TestClient) -> None:
    made = [send(client, image) for image in IMAGES[:20]]
    check_problem(post_json(client, PATH, [IMAGES[20]]), 409, "too_much_feedback")
    assert send(client, IMAGES[0])["id"] == made[0]["id"]
    client.patch(f"{PATH}/{made[0]['id']}", json={"state": "dismissed"})
    assert send(client, IMAGES[20])["state"] == "open"


def test_base64_that_is_no_image_is_told_apart(client: TestClient) -> None:
    check_problem(client.post(PATH, json={"images": ["!"]}), 422, "invalid_request")
    encoded = base64.b64encode(b"GIF89a").decode()
    check_problem(client.post(PATH, json={"images": [encoded]}), 422, "image_undecodable")
