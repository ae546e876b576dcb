"""More than one machine: what one replica is told, the others know, and what one worker leaves, another one finds."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from paintbox_client.client import Client
from tests.builders import WORDS, digit_members, digit_pngs, write_zip
from tests.cluster.installation import Cluster, Replica, open_cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
FINETUNE = {"iterations": 12, "batch_size": 16, "learning_rate": 3e-4}
IMAGES = [digit_pngs(digit)[-1] for digit in range(4)]
LABELS = [f"digit {word}" for word in WORDS[:6]]


@contextmanager
def step(name: str) -> Iterator[None]:
    """Tell how long what happens inside took."""
    started = time.monotonic()
    yield
    sys.stdout.write(f"\n  {time.monotonic() - started:6.1f} s  {name}")
    sys.stdout.flush()


def wait_for(look: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.1)


def finished(client: Client, job_id: str) -> dict[str, Any]:
    job = client.wait_for_job(job_id, timeout=400)
    assert job["status"] == "succeeded", job
    return job


def upload(client: Client, folder: Path, name: str, digits: range, **num_by_split: int) -> str:
    """The id of a data set of scans of these digits, once it is ready."""
    dataset = client.upload_dataset(write_zip(folder / f"{name}.zip", digit_members(digits, **num_by_split)), name=name)
    finished(client, dataset["job"]["id"])
    return str(dataset["id"])


def followers(client: Client) -> set[tuple[int, int]]:
    """Canary and shadow of every living replica, as this one knows."""
    replicas = client.system()["replicas"]
    return {(each["canary_version"], each["shadow_version"]) for each in replicas if each["is_alive"]}


def classify(client: Client, key: str | None = None) -> tuple[int, Any]:
    answer = client.classify(IMAGES, labels=LABELS, key=key)
    return answer["version"], answer["results"]


def serving(client: Client) -> list[int]:
    """What every living replica serves, as this one knows."""
    return [each["serving_version"] for each in client.system()["replicas"] if each["is_alive"]]


@contextmanager
def kept_asking(replica: Replica) -> Iterator[list[int]]:
    """Classify through the replica all the time; the versions that answered."""
    versions: list[int] = []
    stopping = threading.Event()
    troubles: list[Exception] = []

    def ask() -> None:
        with Client(replica.client.url) as client:
            while not stopping.is_set():
                try:
                    versions.append(classify(client)[0])
                except Exception as error:
                    troubles.append(error)
                    return

    thread = threading.Thread(target=ask)
    thread.start()
    yield versions
    stopping.set()
    thread.join()
    assert troubles == []
    assert versions


def test_two_replicas_and_three_workers_are_one_service(tmp_path_factory: pytest.TempPathFactory) -> None:
    with ExitStack() as stack:
        with step("PostgreSQL, S3, Valkey, two replicas and three workers are up"):
            cluster = stack.enter_context(open_cluster(tmp_path_factory.mktemp("cluster")))
        try:
            walk(cluster, tmp_path_factory.mktemp("archives"))
        except BaseException:
            sys.stdout.write(cluster.logs())
            raise


def walk(cluster: Cluster, folder: Path) -> None:
    first, second = cluster.replicas
    a, b = first.client, second.client
    with step("data sets uploaded to A, ready as B sees it"):
        digits = upload(a, folder, "digits", range(3), train=16, val=4, test=4)
        others = upload(a, folder, "others", range(6, 9), val=4, test=4)
        assert {each["state"] for each in (b.dataset(digits), b.dataset(others))} == {"ready"}
    with step("a patch asked of A, watched from B"):
        alpha = {"rule": "combined", "strategy": "grid", "grid_step": 0.5}
        started = a.create_patch(
            name="one", tasks=[digits], supported=[others], finetune=FINETUNE, alpha=alpha, anchors=None
        )
        finished(b, started["job"]["id"])
        version = b.patch(started["patch"]["id"])["version_id"]
    with step("the alias moved through A, served by both"):
        a.activate(version, reason="a test")
        wait_for(lambda: serving(a) == serving(b) == [version, version], "both serve the version")
    with step("both give the same answer"):
        assert classify(a) == classify(b)
        assert classify(b)[0] == version
    evaluate(a, b, others, version)
    fan_out(a, b, folder, others)
    replace_replica(cluster, first, second, version)
    try_another(a, b, version)


def evaluate(a: Client, b: Client, dataset: str, version: int) -> None:
    with step("an evaluation asked of B, its predictions and the check of a move read from A"):
        started = b.create_evaluation(versions=[1, version], dataset=dataset, split="validation")
        finished(a, started["job"]["id"])
        done = a.evaluation(started["evaluation"]["id"])
        assert done.report is not None
        predictions = list(a.predictions(done.id, version))
        assert len(predictions) == done.report.versions[1].num_images
        right = sum(each.label == each.predicted for each in predictions)
        measurement = done.report.versions[1].measurement
        assert measurement is not None
        assert measurement.score.correct == right
        assert a.check(version).loads is True


def try_another(a: Client, b: Client, version: int) -> None:
    keys = [f"asker {number}" for number in range(12)]
    with step("a canary and a shadow named through B, in use on both"):
        b.activate(1, alias="canary")
        b.activate(1, alias="shadow")
        wait_for(lambda: followers(a) == followers(b) == {(1, 1)}, "both have loaded them")
        answers = [[classify(client, key)[0] for key in keys] for client in (a, b)]
        assert answers[0] == answers[1]
        assert set(answers[0]) == {1, version}
        wait_for(lambda: all(client.system()["comparison"] for client in (a, b)), "both compare")


def fan_out(a: Client, b: Client, folder: Path, others: str) -> None:
    with step("three more data sets"):
        tasks = [upload(a, folder, f"task {n}", range(n, n + 2), train=16, val=4, test=4) for n in (0, 2, 4)]
    with step("a parallel patch of three tasks, fine-tuned by three workers at once, joined once"):
        alpha = {"rule": "combined", "strategy": "grid", "grid_step": 0.5}
        patch = {
            "method": "parallel",
            "tasks": tasks,
            "supported": [others],
            "finetune": FINETUNE,
            "alpha": alpha,
            "anchors": None,
        }
        started = a.create_patch(name="three", **patch)
        job_id = started["job"]["id"]
        parts = [job["id"] for job in b.jobs() if job["parent_id"] == job_id]
        assert len(parts) == len(tasks)
        finished(b, job_id)
    assert {b.job(part)["status"] for part in parts} == {"succeeded"}
    owners = {event["data"]["owner"] for part in parts for event in b.job_events(part) if event["message"] == "started"}
    assert len(owners) == len(tasks), owners
    assert [event["message"] for event in b.job_events(job_id)].count("started") == 1
    with step("another one cancelled through B while it is fine-tuned"):
        long = {**patch, "finetune": {**FINETUNE, "iterations": 100_000}}
        job_id = a.create_patch(name="long", **long)["job"]["id"]
        parts = [job["id"] for job in a.jobs() if job["parent_id"] == job_id]
        wait_for(lambda: all(a.job(part)["stage"] == "finetune" for part in parts), "all parts are fine-tuned")
        b.cancel_job(job_id)
        wait_for(lambda: a.job(job_id)["status"] == "cancelled", "the patch is cancelled", 10)
    assert {a.job(part)["status"] for part in parts} == {"cancelled"}


def replace_replica(cluster: Cluster, stays: Replica, goes: Replica, version: int) -> None:
    with kept_asking(stays) as versions:
        with step("B killed; A goes on serving"):
            assert goes.process is not None
            goes.process.kill()
            num_before = len(versions)
            wait_for(lambda: len(versions) > num_before + 5, "A answers while B is down")
        with step("B started again, serving the same version"):
            cluster.start_replica(goes)
            cluster.wait_until_ready(goes)
            assert classify(goes.client)[0] == version
    assert set(versions) == {version}
