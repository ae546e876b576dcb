"""Each operation of the API has a method in the client and a command, except those of other protocols."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
import typer
from typer.core import TyperGroup

from paintbox_client.cli import app
from paintbox_client.client import Client
from paintbox_client.errors import ClientError
from tests.project.paths import ROOT

Call = Callable[[Client], object]
IMAGE = b"\x89PNG\r\n"

ELSEWHERE = {
    "GET /livez": "a probe",
    "GET /metrics": "read by Prometheus",
    "POST /v1/session": "the cookie of a browser; the client sends a key",
    "DELETE /v1/session": "the cookie of a browser; the client sends a key",
    "OPTIONS /v1/uploads": "part of the protocol tus, which `upload_dataset` speaks for large files",
    "POST /v1/uploads": "as above",
    "HEAD /v1/uploads/{upload_id}": "as above",
    "PATCH /v1/uploads/{upload_id}": "as above",
    "DELETE /v1/uploads/{upload_id}": "as above",
}
"""Operations that people do not call by name, and why."""

OPERATIONS: dict[str, tuple[Call, str]] = {
    "GET /readyz": (lambda c: c.ready(), "system"),
    "POST /v1/classify": (lambda c: c.classify(IMAGE, ["a", "b"]), "classify"),
    "POST /v1/embed": (lambda c: c.embed(IMAGE), "embed"),
    "GET /v1/datasets": (lambda c: c.datasets(), "datasets"),
    "GET /v1/datasets/{dataset_id}": (lambda c: c.dataset("x"), "dataset"),
    "PATCH /v1/datasets/{dataset_id}": (lambda c: c.rename_dataset("x", "y"), "datasets rename"),
    "DELETE /v1/datasets/{dataset_id}": (lambda c: c.delete_dataset("x"), "datasets delete"),
    "POST /v1/datasets/{dataset_id}/derive": (lambda c: c.derive_dataset("x", "y"), "derive"),
    "GET /v1/datasets/{dataset_id}/images": (lambda c: c.dataset_images("x"), "datasets images"),
    "GET /v1/datasets/{dataset_id}/images/{split}/{row}": (lambda c: c.thumbnail("x", "test", 0), "datasets images"),
    "POST /v1/datasets/collect": (lambda c: c.collect_dataset("x", [{"dataset": "y"}]), "datasets collect"),
    "POST /v1/datasets/from-feedback": (lambda c: c.create_dataset_from_feedback("x"), "feedback collect"),
    "POST /v1/patches": (lambda c: c.create_patch(name="x", tasks=["y"]), "patch"),
    "GET /v1/patches": (lambda c: c.patches(), "patches"),
    "POST /v1/patches/check": (lambda c: c.check_patch(name="x", tasks=["y"]), "patch"),
    "GET /v1/patches/{patch_id}": (lambda c: c.patch("x"), "report"),
    "PATCH /v1/patches/{patch_id}": (lambda c: c.rename_patch("x", "y"), "patches rename"),
    "DELETE /v1/patches/{patch_id}": (lambda c: c.delete_patch("x"), "patches delete"),
    "GET /v1/patches/{patch_id}/report.html": (lambda c: c.report_page("x"), "report"),
    "GET /v1/patches/{patch_id}/curve": (lambda c: c.patch_curve("x"), "curve"),
    "GET /v1/patches/{patch_id}/changes": (lambda c: c.patch_changes("x", "y"), "changes"),
    "POST /v1/patches/{patch_id}/reselect": (lambda c: c.reselect("x", alpha=0.1), "reselect"),
    "POST /v1/patches/{patch_id}/extend": (lambda c: c.extend_patch("x", ["y"]), "extend"),
    "POST /v1/patches/{patch_id}/forget": (lambda c: c.forget_classes("x", ["y"]), "forget"),
    "POST /v1/evaluations": (lambda c: c.create_evaluation(versions=[1], dataset="x"), "evaluate"),
    "GET /v1/evaluations": (lambda c: c.evaluations(), "evaluations"),
    "GET /v1/evaluations/{evaluation_id}": (lambda c: c.evaluation("x"), "evaluation"),
    "DELETE /v1/evaluations/{evaluation_id}": (lambda c: c.delete_evaluation("x"), "delete-evaluation"),
    "GET /v1/evaluations/{evaluation_id}/predictions": (lambda c: list(c.predictions("x")), "predictions"),
    "GET /v1/evaluations/{evaluation_id}/predictions/file": (
        lambda c: c.download_predictions("x", Path("none.parquet")),
        "evaluate",
    ),
    "POST /v1/feedback": (lambda c: c.send_feedback(IMAGE, label="a"), "feedback send"),
    "GET /v1/feedback": (lambda c: c.feedback(), "feedback list"),
    "DELETE /v1/feedback": (lambda c: c.delete_matching_feedback(state="open"), "feedback delete"),
    "GET /v1/feedback/{feedback_id}": (lambda c: c.one_feedback("x"), "feedback show"),
    "PATCH /v1/feedback/{feedback_id}": (lambda c: c.change_feedback("x", state="accepted"), "feedback accept"),
    "DELETE /v1/feedback/{feedback_id}": (lambda c: c.delete_feedback("x"), "feedback delete"),
    "GET /v1/feedback/{feedback_id}/image": (lambda c: c.feedback_image("x"), "feedback show"),
    "GET /v1/jobs": (lambda c: c.jobs(), "jobs"),
    "GET /v1/jobs/{job_id}": (lambda c: c.job("x"), "job"),
    "GET /v1/jobs/{job_id}/events": (lambda c: c.job_events("x"), "job"),
    "POST /v1/jobs/{job_id}/cancel": (lambda c: c.cancel_job("x"), "cancel"),
    "POST /v1/jobs/{job_id}/retry": (lambda c: c.retry_job("x"), "retry"),
    "GET /v1/events": (lambda c: c.events(), "events"),
    "GET /v1/versions": (lambda c: c.versions(), "versions"),
    "POST /v1/versions": (lambda c: c.compose("x", [{"version": 1}]), "compose"),
    "GET /v1/versions/{version_id}": (lambda c: c.version(1), "version show"),
    "PATCH /v1/versions/{version_id}": (lambda c: c.relabel(1, name="x"), "tag"),
    "DELETE /v1/versions/{version_id}": (lambda c: c.delete_version(1), "delete"),
    "GET /v1/versions/{version_id}/compare": (lambda c: c.compare_versions(1, 2), "compare"),
    "POST /v1/versions/{version_id}/restore": (lambda c: c.restore_version(1), "restore"),
    "POST /v1/versions/{version_id}/verify": (lambda c: c.verify(1), "verify"),
    "GET /v1/versions/{version_id}/export": (lambda c: c.export(1, Path("none")), "export"),
    "POST /v1/gc": (lambda c: c.collect_garbage(), "gc"),
    "GET /v1/aliases": (lambda c: c.aliases(), "aliases"),
    "GET /v1/aliases/{alias}": (lambda c: c.alias("x"), "aliases"),
    "PUT /v1/aliases/{alias}": (lambda c: c.activate(1), "activate"),
    "DELETE /v1/aliases/{alias}": (lambda c: c.delete_alias("x"), "unalias"),
    "GET /v1/aliases/{alias}/history": (lambda c: c.alias_history(), "history"),
    "GET /v1/aliases/{alias}/approvals": (lambda c: c.approvals(), "approvals"),
    "POST /v1/aliases/{alias}/approvals/{approval_id}/approve": (lambda c: c.approve("x"), "approve"),
    "POST /v1/aliases/{alias}/approvals/{approval_id}/reject": (lambda c: c.reject("x"), "reject"),
    "POST /v1/aliases/{alias}/check": (lambda c: c.check(1), "check"),
    "POST /v1/aliases/{alias}/rollback": (lambda c: c.roll_back(), "rollback"),
    "POST /v1/label-sets": (lambda c: c.create_label_set(["a"]), "label-sets create"),
    "GET /v1/label-sets": (lambda c: c.label_sets(), "label-sets list"),
    "GET /v1/label-sets/{label_set_id}": (lambda c: c.label_set("x"), "label-sets show"),
    "DELETE /v1/label-sets/{label_set_id}": (lambda c: c.delete_label_set("x"), "label-sets delete"),
    "POST /v1/keys": (lambda c: c.create_key("x", ["read"]), "keys create"),
    "GET /v1/keys": (lambda c: c.keys(), "keys list"),
    "DELETE /v1/keys/{key_id}": (lambda c: c.revoke_key("x"), "keys revoke"),
    "GET /v1/session": (lambda c: c.session(), "whoami"),
    "GET /v1/bases": (lambda c: c.bases(), "bases"),
    "GET /v1/system": (lambda c: c.system(), "system"),
    "POST /v1/verify": (lambda c: list(c.verify_all()), "verify"),
}
"""The method of the client, called in any way that is valid, and the command, by operation."""


def documented() -> Iterator[tuple[str, str]]:
    document = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    for path, methods in document["paths"].items():
        if not path.startswith(("/v2", "/hf")):
            yield from ((method.upper(), path) for method in methods)


def test_each_operation_is_in_the_client_and_the_command_line() -> None:
    upload = {"POST /v1/datasets"}  # an archive goes by `upload`, whose tests send real ones
    operations = {f"{method} {path}" for method, path in documented()}
    assert operations - upload == OPERATIONS.keys() | ELSEWHERE.keys()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_method_of_the_client_sends_its_operation(operation: str) -> None:
    sent: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        problem = {"code": "not_found", "detail": "There is none.", "next": "List them.", "status": 404}
        return httpx2.Response(404, json=problem)

    with Client("http://127.0.0.1:1", transport=httpx2.MockTransport(answer)) as client, suppress(ClientError):
        OPERATIONS[operation][0](client)
    method, _, path = operation.partition(" ")
    assert sent, "nothing was sent"
    parts, wanted = sent[0].url.path.split("/"), path.split("/")
    assert sent[0].method == method
    assert len(parts) == len(wanted)
    assert all(want in (part, f"{{{want[1:-1]}}}") for part, want in zip(parts, wanted, strict=True) if want[:1] != "{")


def test_each_operation_has_a_command_that_explains_itself() -> None:
    root = typer.main.get_command(app)
    for operation, (_, words) in OPERATIONS.items():
        command = root
        for word in words.split():
            assert isinstance(command, TyperGroup), operation
            found = command.get_command(None, word)  # type: ignore[arg-type]
            assert found is not None, f"{operation}: paintbox {words}"
            command = found
        assert command.help, words
