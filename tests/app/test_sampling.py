"""Sampling of traffic: what is kept, who can prevent it, what is dropped, and when it is erased."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from app.sampling.sampler import MAX_WAITING, Candidate, Finding, Sampler
from app.system.cleaning import clean_up
from contract.feedback import FeedbackSource
from paintbox_client.client import Client
from registry.disk import Disks
from registry.errors import BlobMissingError
from registry.feedback import Feedback
from registry.tables import FeedbackRow
from tests.app.asking import POSTS, Post, post_json
from tests.app.test_leaving import wait_for
from tests.app.world import World, add_version, open_world, serve
from tests.builders import digit_pngs
from tests.paintbox_client.inside import run

IMAGES = digit_pngs(5)
LABELS = ["zero", "one", "two"]
ON = {"sampling_share": 1.0, "sampling_max_margin": 1.0, "shadow_share": 1.0}


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("on"), **ON) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _emptied(on: World) -> Iterator[None]:
    yield
    for state in ("open", "accepted"):
        on.client.delete("/v1/feedback", params={"state": state})


def kept(world: World) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = world.client.get("/v1/feedback").json()["items"]
    return items


def test_nothing_is_kept_by_default(world: World) -> None:
    assert post_json(world.client, "/v1/classify", [IMAGES[0]], candidate_labels=LABELS).status_code == 200
    assert not world.services.classifier.sampler.is_on
    assert kept(world) == []


@pytest.mark.parametrize("post", POSTS)
def test_a_close_answer_is_kept_unless_the_request_forbids_it(on: World, post: Post) -> None:
    hidden = post(on.client, "/v1/classify", [IMAGES[0]], candidate_labels=LABELS, keep=False)
    named = post(on.client, "/v1/classify", [IMAGES[1]], candidate_labels=LABELS, version=1)
    shown = post(on.client, "/v1/classify", [IMAGES[2]], candidate_labels=LABELS)
    assert {hidden.status_code, named.status_code, shown.status_code} == {200}
    wait_for(lambda: len(kept(on)) == 1)
    (row,) = kept(on)
    first, second, _ = (each["score"] for each in shown.json()["results"][0]["predictions"])
    assert (row["source"], row["state"], row["label"]) == ("sampled", "open", None)
    assert row["predicted"] == shown.json()["results"][0]["predictions"][0]["label"]
    assert row["margin"] == pytest.approx(first - second, abs=1e-6)
    assert row["expires_at"] > row["created_at"]
    labelled = on.client.patch(f"/v1/feedback/{row['id']}", json={"label": "five"}).json()
    assert labelled["expires_at"] is None


def test_the_client_and_the_command_can_forbid_it_too(on: World, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(IMAGES[4])
    with serve(on) as url, Client(url) as client:
        client.classify([IMAGES[3], IMAGES[4]], LABELS, keep=False)
        command = ("classify", tmp_path / "a.png", *(word for label in LABELS for word in ("--label", label)))
        assert run(*command, "--no-keep", PAINTBOX_URL=url).status == 0
        assert run(*command, PAINTBOX_URL=url).status == 0
    wait_for(lambda: bool(kept(on)))
    assert len(kept(on)) == 1


def test_answers_are_the_same_with_and_without_it(world: World, on: World) -> None:
    asked = {"candidate_labels": LABELS, "templates": ["a scan of {}"]}
    answers = [post_json(each.client, "/v1/classify", IMAGES[:1], **asked).json() for each in (world, on)]
    assert answers[0]["results"] == answers[1]["results"]
    assert answers[0].keys() == answers[1].keys()


def test_an_image_on_which_the_shadow_disagrees_is_kept(tmp_path: Path) -> None:
    with open_world(tmp_path, **ON | {"sampling_max_margin": 0.0}) as world:
        version, _ = add_version(world.services, world.base, seed=3, coefficient=200.0)  # nothing of the base is left
        assert world.client.put("/v1/aliases/shadow", json={"version": version}).status_code == 200
        world.services.follower.follow()
        for image in IMAGES[:12]:
            post_json(world.client, "/v1/classify", [image], candidate_labels=[*LABELS, "cat", "pizza"])
        wait_for(lambda: world.services.shadow.tally is not None and world.services.shadow.tally.differed > 0)
        wait_for(lambda: bool(kept(world)))
        row = kept(world)[0]
        assert (row["source"], row["version_id"], row["margin"]) == ("shadow", 1, None)
        assert f"version {version} answers" in row["note"]


def test_what_comes_too_fast_is_dropped_and_counted(on: World) -> None:
    may_go_on, has_begun = threading.Event(), threading.Event()

    def find() -> list[Finding]:
        has_begun.set()
        may_go_on.wait(30)
        return [Finding(0, "zero", 0.1, FeedbackSource.SAMPLED)]

    with ExitStack() as stack:
        sampler = _sampler(on)
        stack.callback(sampler.close)
        stack.callback(may_go_on.set)
        before = _dropped(on, "queue_full")
        candidate = Candidate([IMAGES[0]], 1, None, find)
        sampler._put(candidate)
        assert has_begun.wait(30)
        for _ in range(MAX_WAITING + 3):
            sampler._put(candidate)
        assert _dropped(on, "queue_full") - before == 3
        may_go_on.set()
        wait_for(lambda: len(kept(on)) == 1)  # the same picture is kept once
        sampler._queue.join()
        sampler._put(Candidate([bytes(65 << 20)], 1, None, list))
        assert _dropped(on, "queue_full") - before == 4


def test_a_fault_or_a_full_store_drops_what_was_to_be_kept_and_no_more(on: World) -> None:
    with ExitStack() as stack:
        sampler = _sampler(on, sampling_max_bytes=len(IMAGES[0]))
        stack.callback(sampler.close)
        failed, full = _dropped(on, "failed"), _dropped(on, "storage_full")
        for image in (b"no image", IMAGES[0], IMAGES[1]):
            finding = Finding(0, "zero", 0.1, FeedbackSource.SAMPLED)
            sampler._put(Candidate([image], 1, None, lambda finding=finding: [finding]))  # type: ignore[misc]
        sampler._queue.join()
        assert (_dropped(on, "failed") - failed, _dropped(on, "storage_full") - full) == (1, 1)
        assert len(kept(on)) == 1


def test_what_has_expired_is_erased_with_its_image(on: World) -> None:
    post_json(on.client, "/v1/classify", IMAGES[:2], candidate_labels=LABELS)
    wait_for(lambda: len(kept(on)) == 2)
    expired, labelled = (each["id"] for each in kept(on))
    on.client.patch(f"/v1/feedback/{labelled}", json={"label": "five"})
    services = on.services
    with services.database.write() as session:
        row = Feedback(session).get(expired)
        row.expires_at, sha256 = row.created_at, row.image_sha256
    clean_up(services.settings, services.database, services.blobs, services.uploads)
    assert [each["id"] for each in kept(on)] == [labelled]
    with pytest.raises(BlobMissingError):
        services.blobs.read(sha256)
    with services.database.read() as session:
        assert session.get(FeedbackRow, labelled) is not None


def _sampler(world: World, **settings: Any) -> Sampler:
    services = world.services
    chosen = services.settings.model_copy(update=settings)
    disks = Disks((chosen.data_dir,), 0)
    return Sampler(services.database, services.blobs, disks, services.metrics, chosen, rest_seconds=0)


def _dropped(world: World, reason: str) -> float:
    return world.services.metrics.registry.get_sample_value("paintbox_samples_dropped_total", {"reason": reason}) or 0.0
