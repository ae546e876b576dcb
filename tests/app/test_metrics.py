"""What Prometheus reads: it counts what happens, it lints, and its labels have few values."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from app.metrics.jobs import JobCollector
from app.metrics.metrics import MOST_VERSIONS, Metrics
from contract.jobs import JobKind
from registry.database import Database
from registry.jobs import Jobs
from registry.patches import Patches
from tests.app.exposition import find_problems
from tests.app.patched import add_patch
from tests.app.world import World, add_ready_dataset, open_world
from tests.builders import digit_pngs, small_report
from tests.registry.clock import Clock


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An application that has done a bit of everything."""
    with open_world(tmp_path_factory.mktemp("busy")) as world:
        add_patch(world)
        classify(world, 3)
        world.client.get("/v1/jobs/job_nothing")
        world.client.get("/nothing/at/all")
        world.client.request("BREW", "/v1/jobs")
        yield world


def classify(world: World, num_images: int) -> None:
    files = [("images", (f"{index}.png", digit_pngs(0)[0], "image/png")) for index in range(num_images)]
    response = world.client.post("/v1/classify", data={"candidate_labels": ["zero", "one"]}, files=files)
    assert response.status_code == 200, response.text


def read(world: World) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every series, by name and labels."""
    response = world.client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = text_string_to_metric_families(response.text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(world: World, name: str, **labels: str) -> float | None:
    return read(world).get((name, frozenset(labels.items())))


def test_the_exposition_lints(busy: World) -> None:
    assert list(find_problems(busy.client.get("/metrics").text)) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("# TYPE a_total counter\na_total 1\n", "no HELP"),
        ("# HELP a_total x\na_total 1\n", "type None"),
        ("# HELP a x\n# TYPE a counter\na 1\n", "a counter with such an ending"),
        ("# HELP a_total x\n# TYPE a_total gauge\na_total 1\n", "a gauge with such an ending"),
        ("# HELP a_ms x\n# TYPE a_ms gauge\na_ms 1\n", "unit ms"),
        ("# HELP a_milliseconds x\n# TYPE a_milliseconds gauge\na_milliseconds 1\n", "unit milliseconds"),
        ("# HELP a_seconds_now x\n# TYPE a_seconds_now gauge\na_seconds_now 1\n", "its unit is not at the end"),
        ("# HELP aB x\n# TYPE aB gauge\naB 1\n", "not in lower snake case"),
        ("# HELP a x\n# TYPE a gauge\na 1\na 2\n", "a twice"),
        ("# HELP a x\n# TYPE a gauge\n# TYPE a gauge\na 1\n", "second or late TYPE"),
        ("# HELP a_gauge x\n# TYPE a_gauge gauge\na_gauge 1\n", "its type in its name"),
        ('# HELP a x\n# TYPE a gauge\na{B="1"} 1\n', "label B"),
        ('# HELP a_seconds x\n# TYPE a_seconds histogram\na_seconds_bucket{le="1"} 1\n', "no bucket +Inf"),
        ("# HELP a_info x\n# TYPE a_info gauge\na_info 2\n", "an info that is not 1"),
    ],
)
def test_a_planted_problem_is_found(text: str, problem: str) -> None:
    assert any(each.endswith(problem) or problem in each for each in find_problems(text))


def test_requests_are_counted_by_template_and_never_by_path(busy: World) -> None:
    labels = {"method": "GET", "route": "/v1/jobs/{job_id}", "status": "404"}
    assert value(busy, "paintbox_http_requests_total", **labels) == 1
    assert value(busy, "paintbox_http_requests_total", method="GET", route="unmatched", status="404") == 1
    seen = read(busy)
    texts = {text for _, labels in seen for _, text in labels}
    assert not any("job_nothing" in text or "/nothing" in text for text in texts)
    assert {text for _, pairs in seen for name, text in pairs if name == "method"} == {"GET", "POST", "other"}


def test_a_scrape_counts_what_happened_since_the_last_one(busy: World) -> None:
    name = "paintbox_http_request_duration_seconds_count"
    before = value(busy, name, method="GET", route="/livez") or 0
    for _ in range(4):
        busy.client.get("/livez")
    assert value(busy, name, method="GET", route="/livez") == before + 4


def test_images_and_batches_are_counted(busy: World) -> None:
    version = str(busy.services.versions.require_active().version_id)
    before = read(busy)
    classify(busy, 5)
    after = read(busy)
    images = ("paintbox_images_classified_total", frozenset({("version", version)}))
    batches = ("paintbox_inference_batch_images_sum", frozenset())
    assert after[images] - before[images] == 5
    assert after[batches] - before[batches] == 5


def test_the_version_that_answers_is_named(busy: World) -> None:
    served = str(busy.services.versions.require_active().version_id)
    assert value(busy, "paintbox_active_version_info", version=served) == 1
    assert len([name for name, _ in read(busy) if name == "paintbox_active_version_info"]) == 1


def test_what_the_caches_take_is_told(busy: World) -> None:
    before = value(busy, "paintbox_cache_bytes", cache="heads")
    assert before is not None
    labels = {"candidate_labels": ["a", "b", "c"]}
    response = busy.client.post("/v1/classify", data=labels, files={"images": digit_pngs(0)[0]})
    assert response.status_code == 200
    after = value(busy, "paintbox_cache_bytes", cache="heads")
    assert after is not None
    assert after - before >= 3 * busy.base.embed_dim * 4
    assert value(busy, "paintbox_cache_bytes", cache="versions") == 0


def test_jobs_are_counted_by_kind_and_status_with_zeros(busy: World) -> None:
    before = value(busy, "paintbox_jobs", kind="patch", status="queued")
    assert before is not None
    assert value(busy, "paintbox_jobs", kind="ingest", status="failed") == 0
    with busy.services.database.write() as session:
        Jobs(session).create(JobKind.PATCH, "pt_test")
    assert value(busy, "paintbox_jobs", kind="patch", status="queued") == before + 1


def test_jobs_that_end_tell_their_time_and_that_of_their_stages(busy: World) -> None:
    labels = {"kind": "patch", "status": "succeeded"}
    before = read(busy)
    task = add_ready_dataset(busy.services, ["a", "b"], splits=("train", "validation", "test"))
    patch = busy.client.post("/v1/patches", json={"name": "p", "tasks": [task]}).json()["patch"]
    with busy.services.database.write() as session:
        jobs = Jobs(session)
        lease = jobs.lease(patch["job_id"], "a test")
        assert lease is not None
        report = small_report(timings_seconds={"finetune": 61.0, "a new stage": 1.0})
        Patches(session).complete(patch["id"], version_id=1, report=report)
        jobs.succeed(lease)
    after, again = read(busy), read(busy)
    counted = ("paintbox_job_duration_seconds_count", frozenset(labels.items()))
    finetune = ("paintbox_job_stage_duration_seconds_sum", frozenset({("stage", "finetune")}))
    other = ("paintbox_job_stage_duration_seconds_count", frozenset({("stage", "other")}))
    assert after[counted] == before.get(counted, 0) + 1
    assert after[finetune] == before.get(finetune, 0) + 61
    assert after[other] == 1
    assert again[counted] == after[counted]


def test_without_a_database_the_rest_is_still_told(tmp_path: Path) -> None:
    with open_world(tmp_path) as world:
        with world.services.database.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE jobs RENAME TO gone")
        text = world.client.get("/metrics").text
        assert "paintbox_database_up 0.0" in text
        assert "paintbox_active_version_info" in text
        assert list(find_problems(text)) == []
        with world.services.database.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE gone RENAME TO jobs")
        assert value(world, "paintbox_database_up") == 1


def test_versions_that_answered_long_ago_are_dropped() -> None:
    metrics = Metrics()
    for version in range(MOST_VERSIONS + 10):
        metrics.count_images(version, 1)
        metrics.count_images(0, 1)  # goes on answering
    kept = versions_in(metrics.registry)
    assert len(kept) == MOST_VERSIONS
    assert {"0", str(MOST_VERSIONS + 9)} <= kept
    assert "1" not in kept


def versions_in(registry: CollectorRegistry) -> set[str]:
    families = (family for family in registry.collect() if family.name == "paintbox_images_classified")
    return {sample.labels["version"] for family in families for sample in family.samples}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'paintbox.db'}")
    database.migrate()
    yield database
    database.close()


def sample(collector: JobCollector, name: str, **labels: str) -> float | None:
    found = [
        each for family in collector.collect() for each in family.samples if (each.name, each.labels) == (name, labels)
    ]
    return found[0].value if found else None


def test_a_lease_that_lapses_is_counted_once(database: Database) -> None:
    clock = Clock()
    collector = JobCollector(database, clock)
    with database.write() as session:
        job_id = Jobs(session, clock).create(JobKind.PATCH, "pt_1").id
    for number in range(3):
        with database.write() as session:
            assert Jobs(session, clock).lease(job_id, "a worker", 10)
        assert sample(collector, "paintbox_job_lease_losses_total") == number
        clock.advance(11)
        collector.count_lapses()
        assert sample(collector, "paintbox_job_lease_losses_total") == number + 1


def test_a_job_that_was_retried_counts_again_and_earlier_ones_do_not(database: Database) -> None:
    clock = Clock()
    with database.write() as session:
        job_id = Jobs(session, clock).create(JobKind.PATCH, "pt_1").id

    def fail() -> None:
        with database.write() as session:
            jobs = Jobs(session, clock)
            lease = jobs.lease(job_id, "a worker")
            assert lease is not None
            jobs.fail(lease, "broken", "It broke.")

    fail()
    clock.advance(1)
    collector = JobCollector(database, clock)  # a process that started after it
    labels = {"kind": "patch", "status": "failed"}
    assert sample(collector, "paintbox_job_duration_seconds_count", **labels) is None
    for number in (1, 2):
        with database.write() as session:
            Jobs(session, clock).retry(job_id)
        clock.advance(1)
        fail()
        assert sample(collector, "paintbox_job_duration_seconds_count", **labels) == number
        assert sample(collector, "paintbox_job_duration_seconds_count", **labels) == number
        clock.advance(3600)


def test_how_long_jobs_wait_and_are_silent_is_told(database: Database) -> None:
    moment = datetime.now(UTC) - timedelta(minutes=10)
    with database.write() as session:
        jobs = Jobs(session, lambda: moment)
        held = jobs.create(JobKind.PATCH, "pt_1").id
        jobs.create(JobKind.PATCH, "pt_2")
        assert jobs.lease(held, "a worker", seconds=3_600) is not None
    collector = JobCollector(database)
    assert 600 <= (sample(collector, "paintbox_job_longest_wait_seconds") or 0) < 660
    assert 600 <= (sample(collector, "paintbox_job_longest_silence_seconds") or 0) < 660
