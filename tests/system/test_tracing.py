"""One trace over all real processes: API, broker, worker, trainer."""

from pathlib import Path

import pytest

from tests.builders import digit_members, write_zip
from tests.support.collector import Collector
from tests.system.conftest import start_service, stop_service

pytestmark = pytest.mark.system
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")


def test_the_processes_of_an_installation_send_one_trace_for_an_upload(tmp_path: Path) -> None:
    collector = Collector()
    service = start_service(tmp_path / "data", PAINTBOX_TRACING="1", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    try:
        archive = write_zip(tmp_path / "digits.zip", digit_members(range(2), train=4, val=2, test=2))
        uploaded = service.client.upload_dataset(archive, "digits")
        service.client.wait_for_job(uploaded.job_id)
    finally:
        stop_service(service)
        collector.close()
    request, dispatch, job = (collector.named(name) for name in ("POST /v1/datasets", "dispatch job", "job ingest"))
    assert (request.service, job.service) == ("paintbox-api", "paintbox-worker")
    assert dispatch.parent == job.parent == request.id
    assert job.attributes["paintbox.job.status"] == "succeeded"
    (trainer,) = collector.children(job)
    stages = collector.children(trainer)
    assert stages
    assert {span.trace for span in (request, dispatch, job, trainer, *stages)} == {request.trace}
