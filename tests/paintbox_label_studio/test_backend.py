"""What Label Studio gets, and what Paintbox gets, through the backend."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from paintbox_label_studio.app import create_app
from paintbox_label_studio.settings import Settings
from tests.builders import digit_pngs
from tests.paintbox_client.conftest import Served
from tests.paintbox_label_studio.conftest import TOKEN, ImageServer
from tests.paintbox_label_studio.test_labelling import CONFIG
from tests.support.neighbours import run_script

PNGS = digit_pngs(3)
Open = Callable[..., TestClient]


@pytest.fixture
def backend(served: Served, studio: ImageServer) -> Iterator[Open]:
    studio.files = {f"/data/upload/1/{number}.png": png for number, png in enumerate(PNGS)}
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(
            TestClient(create_app(Settings(studio.url, TOKEN, **options), served.client))
        )


@pytest.fixture(autouse=True)
def _no_feedback(served: Served) -> Iterator[None]:
    yield
    served.client.delete_matching_feedback(source="sent")


def task(number: int) -> dict[str, Any]:
    return {"id": number, "data": {"photo": f"/data/upload/1/{number}.png"}, "annotations": [], "predictions": []}


def asked(*numbers: int) -> dict[str, Any]:
    params = {"login": None, "password": None, "context": None}
    tasks = [task(number) for number in numbers]
    return {"tasks": tasks, "model_version": "", "project": "1.1700000000", "label_config": CONFIG, "params": params}


def event(action: str, number: int, *choices: str, annotation: int = 5) -> dict[str, Any]:
    result = {"from_name": "animal", "to_name": "image", "type": "choices", "value": {"choices": list(choices)}}
    return {
        "action": action,
        "annotation": {"id": annotation, "result": [result], "was_cancelled": False},
        "task": task(number),
        "project": {"id": 1, "label_config": CONFIG},
    }


def best(served: Served, number: int) -> Any:
    return served.client.classify(PNGS[number], labels=["cat", "dog"], top_k=1).results[0].predictions[0]


def test_label_studio_shakes_hands(served: Served, backend: Open) -> None:
    client = backend()
    version = f"paintbox-{served.client.active().version}"
    assert client.get("/health").json() == {"status": "UP", "model_class": "Paintbox", "model_version": version}
    body = {"project": "1.1700000000", "schema": CONFIG, "hostname": "http://localhost:8080", "access_token": "x"}
    assert client.post("/setup", json=body).json() == {"model_version": version}
    refused = client.post("/setup", json={**body, "schema": "<View/>"})
    assert (refused.status_code, "<Choices>" in refused.json()["error"]) == (422, True)


def test_predictions_are_what_the_service_answers(served: Served, backend: Open) -> None:
    answer = backend().post("/predict", json=asked(0, 1)).json()
    for number, found in enumerate(answer["results"]):
        expected = best(served, number)
        (result,) = found["result"]
        assert result["value"] == {"choices": ["hound" if expected.label == "dog" else "cat"]}
        assert (result["from_name"], result["to_name"], result["type"]) == ("animal", "image", "choices")
        assert found["score"] == result["score"] == pytest.approx(expected.score, abs=1e-4)
        assert found["model_version"] == answer["model_version"]


CHECK = """
import json, sys
from label_studio_sdk.label_interface import LabelInterface
print(LabelInterface(sys.argv[1]).validate_prediction(json.loads(sys.argv[2])))
"""


def test_predictions_pass_label_studios_own_check(backend: Open, tmp_path: Path) -> None:
    (found,) = backend().post("/predict", json=asked(0)).json()["results"]
    found = {"result": found["result"], "score": found["score"]}
    assert run_script("label_studio_sdk", CHECK, CONFIG, json.dumps(found), folder=tmp_path) == "True"


def test_a_version_and_prompts_may_be_chosen(served: Served, backend: Open) -> None:
    version = served.add_version()
    answer = backend(version=str(version), templates=("a {} icon",)).post("/predict", json=asked(0)).json()
    assert answer["model_version"] == f"paintbox-{version}"
    expected = served.client.classify(PNGS[0], labels=["cat", "dog"], templates=["a {} icon"], version=version, top_k=1)
    assert answer["results"][0]["score"] == pytest.approx(expected.results[0].predictions[0].score, abs=1e-4)


def test_a_task_that_cannot_be_answered_does_not_spoil_the_others(backend: Open) -> None:
    client = backend()
    answer = client.post("/predict", json=asked(0, 9999)).json()
    assert (len(answer["results"][0]["result"]), answer["results"][1]["result"]) == (1, [])
    assert "status 404" in answer["results"][1]["error"]
    refused = client.post("/predict", json=asked(9999))
    assert (refused.status_code, "status 404" in refused.json()["error"]) == (422, True)
    assert client.post("/predict", json=asked()).json()["results"] == []


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"[" * 100_000, b'{"label_config": 3, "tasks": 3}', b'{"tasks": [3]}']
)
def test_bodies_of_any_kind_are_refused(backend: Open, body: bytes) -> None:
    client = backend()
    for path in ("/predict", "/setup", "/webhook"):
        assert client.post(path, content=body).status_code in ((400, 422) if path != "/webhook" else (201, 400))
    assert client.post("/predict", content=b" " * ((16 << 20) + 1)).status_code == 413


def test_a_correction_becomes_feedback_and_an_agreement_does_not(served: Served, backend: Open) -> None:
    client = backend()
    expected = best(served, 0).label
    other = "cat" if expected == "dog" else "hound"
    same = "hound" if expected == "dog" else "cat"
    assert client.post("/webhook", json=event("ANNOTATION_CREATED", 0, same)).status_code == 201
    assert client.post("/webhook", json=event("ANNOTATION_CREATED", 0, same, other)).status_code == 201
    assert served.client.feedback(source="sent") == []
    client.post("/webhook", json=event("ANNOTATION_CREATED", 0, other))
    (stored,) = served.client.feedback(source="sent")
    assert (stored.label, stored.predicted) == ("dog" if other == "hound" else "cat", expected)
    assert (stored.version_id, stored.note) == (served.client.active().version, "Label Studio, annotation 5")


def test_agreements_are_sent_on_request_and_changes_take_back_what_was_sent(served: Served, backend: Open) -> None:
    client = backend(sends_all=True)
    client.post("/webhook", json=event("ANNOTATION_CREATED", 1, "cat"))
    client.post("/webhook", json=event("ANNOTATION_CREATED", 2, "cat", annotation=6))
    client.post("/webhook", json=event("ANNOTATION_UPDATED", 1, "hound"))

    def states() -> dict[tuple[str | None, str | None], str]:
        return {(each.note, each.label): each.state for each in served.client.feedback(source="sent")}

    first, second = "Label Studio, annotation 5", "Label Studio, annotation 6"
    assert states() == {(first, "cat"): "dismissed", (first, "dog"): "open", (second, "cat"): "open"}
    client.post("/webhook", json={"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 6}], "project": {"id": 1}})
    assert states()[second, "cat"] == "dismissed"


@pytest.mark.parametrize(
    "change",
    [
        {"action": "START_TRAINING"},
        {"action": None},
        {"annotation": None},
        {"task": {"data": None}},
        {"project": None},
        {"project": {"label_config": "<View/>"}},
        {"annotation": {"id": 5, "was_cancelled": True, "result": []}},
        {"annotation": {"id": 5, "result": [3, {"from_name": "animal", "value": 3}, {"from_name": "other"}]}},
        {"annotation": {"id": 5, "result": [{"from_name": "animal", "value": {"choices": ["fish", 3]}}]}},
        {"task": {"data": {"photo": "http://169.254.169.254/"}}},
    ],
)
def test_other_events_store_nothing(served: Served, backend: Open, change: dict[str, Any]) -> None:
    body = event("ANNOTATION_CREATED", 0, "cat") | change
    assert backend(sends_all=True).post("/webhook", json=body).status_code == 201
    assert served.client.feedback(source="sent") == []


def test_user_and_password_are_asked_for(backend: Open) -> None:
    client = backend(password=("studio", "pass:word"))
    assert client.get("/health").status_code == 200
    body = asked(0)
    for login in (None, ("studio", "wrong"), ("", "")):
        assert client.post("/predict", json=body, auth=login).status_code == 401
        assert client.post("/webhook", json=body, auth=login).status_code == 401
    assert client.post("/predict", json=body, headers={"Authorization": "Basic ?"}).status_code == 401
    assert client.post("/predict", json=body, auth=("studio", "pass:word")).status_code == 200
