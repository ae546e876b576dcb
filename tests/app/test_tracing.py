"""A request is followed from its arrival to the trainer's stages, by a real collector; if tracing is off, by none."""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.settings import AppSettings
from pipeline.telemetry import open_tracing
from pipeline.tracing import NO_TRACING, Stages
from registry.job_queries import JobQueries
from registry.settings import StorageSettings
from tests.app.asking import post_files
from tests.app.world import World, open_world
from tests.builders import digit_members, digit_pngs, write_zip
from tests.support.collector import Collector
from tests.support.forking import Forks
from worker.process import trainer_environment
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{CALLER}-01"}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    opened = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", opened.url)
    yield opened
    opened.close()


def _upload(world: World, tmp_path: Path) -> dict[str, Any]:
    archive = write_zip(tmp_path / "digits.zip", digit_members(range(2), train=4, val=2, test=2))
    response = world.client.post(
        "/v1/datasets", data={"name": "digits"}, files={"archive": archive.read_bytes()}, headers=TRACEPARENT
    )
    assert response.status_code == 202, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_a_trace_leads_from_the_request_to_the_stages_of_the_trainer(
    collector: Collector, tmp_path: Path, forks: Forks
) -> None:
    with open_world(tmp_path, tracing=True) as world:
        job_id = _upload(world, tmp_path)["job_id"]
        with world.services.database.read() as session:
            kept = JobQueries(session).traceparent(job_id)
        settings = WorkerSettings.load(data_dir=world.services.settings.data_dir, device="cpu", tracing=True)
        tracing = open_tracing(settings, "paintbox-worker")
        Supervisor(settings, launch=forks.launch, tracing=tracing).run(job_id)
        tracing.close()
        assert world.client.get(f"/v1/jobs/{job_id}").json()["status"] == "succeeded"

    request = collector.named("POST /v1/datasets")
    assert (request.service, request.trace, request.parent) == ("paintbox-api", TRACE, CALLER)
    assert request.attributes["http.response.status_code"] == 202
    assert kept == f"00-{TRACE}-{request.id}-01"
    dispatch = collector.named("dispatch job")
    assert (dispatch.trace, dispatch.parent) == (TRACE, request.id)
    job = collector.named("job ingest")
    assert (job.service, job.trace, job.parent) == ("paintbox-worker", TRACE, request.id)
    assert job.attributes["paintbox.job.status"] == "succeeded"
    assert job.attributes["paintbox.job.id"] == job_id
    (trainer,) = collector.children(job)
    assert trainer.name == "trainer"
    stages = collector.children(trainer)
    assert stages
    assert all(stage.name == f"stage {stage.attributes['paintbox.stage']}" for stage in stages)
    assert all(before.end <= after.start for before, after in itertools.pairwise(stages))
    assert job.start <= trainer.start <= stages[0].start <= stages[-1].end <= trainer.end <= job.end


def test_a_classify_request_shows_queue_decoding_and_forward_pass(collector: Collector, tmp_path: Path) -> None:
    images = [digit_pngs(0)[0], digit_pngs(1)[0]]
    with open_world(tmp_path, tracing=True) as world:
        response = post_files(world.client, "/v1/classify", images, candidate_labels=["zero", "one"])
        assert response.status_code == 200
        for path in ("/livez", "/readyz", "/metrics"):
            world.client.get(path)
    request = collector.named("POST /v1/classify")
    steps = collector.children(request)
    assert [step.name for step in steps] == ["queue", "decode", "forward", "labels"]
    assert all(before.end == after.start for before, after in itertools.pairwise(steps))
    assert request.start <= steps[0].start + 1_000_000
    assert steps[-1].end <= request.end + 1_000_000
    timing = response.json()["timing_ms"]
    forward = next(step for step in steps if step.name == "forward")
    assert (forward.end - forward.start) / 1e6 == pytest.approx(timing["model"], abs=0.5)
    assert {span.name for span in collector.spans if span.kind == 2} == {"POST /v1/classify"}
    assert not any("zero" in str(value) for span in collector.spans for value in span.attributes.values())


def test_without_the_setting_nothing_is_recorded_sent_or_stored(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_world(tmp_path) as world:
        job_id = _upload(world, tmp_path)["job_id"]
        with world.services.database.read() as session:
            assert JobQueries(session).traceparent(job_id) is None
    assert collector.spans == []
    assert open_tracing(StorageSettings.load(data_dir=tmp_path), "x") is NO_TRACING


def test_without_the_setting_neither_tracer_nor_exporter_is_imported(tmp_path: Path) -> None:
    program = (
        "import sys; from app.main import create_app; from app.settings import AppSettings; import worker.tasks;"
        "create_app(AppSettings.load()); worker.tasks._tracing();"
        "names = ('opentelemetry.sdk.trace', 'opentelemetry.exporter', 'pipeline.otel');"
        "print([name for name in sys.modules if name.startswith(names)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={"PAINTBOX_DATA_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_trainer_gets_no_key_of_the_collector(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "authorization=secret")
    environment = trainer_environment(WorkerSettings.load(data_dir=tmp_path, tracing=True))
    assert not any("secret" in value for value in environment.values())


def test_a_stage_that_is_reported_twice_is_one_span(collector: Collector, tmp_path: Path) -> None:
    tracing = open_tracing(StorageSettings.load(data_dir=tmp_path, tracing=True), "test")
    with tracing.span("trainer"), Stages(tracing) as stages:
        for stage in ("prepare", "prepare", "finetune", "finetune", "select"):
            stages.enter(stage)
    tracing.close()
    assert [span.name for span in collector.children(collector.named("trainer"))] == [
        "stage prepare",
        "stage finetune",
        "stage select",
    ]


def test_the_setting_is_off_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")  # of a cluster, for other programs
    assert AppSettings.load(data_dir=tmp_path).tracing is False
