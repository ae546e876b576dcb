"""Label Studio itself, where it is installed (see `tests.support.neighbours`).

It asks for predictions, an annotation of its becomes feedback, and its exports are read.
"""

import io
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from paintbox_label_studio.app import create_app
from paintbox_label_studio.settings import Settings
from tests.app.conftest import free_port
from tests.builders import digit_pngs
from tests.paintbox_client.conftest import Served
from tests.registry.uploads import labels, pack, read
from tests.support.neighbours import python_with

pytestmark = pytest.mark.system
USER, PASSWORD, TOKEN = "somebody@example.com", "a long password", "0123456789abcdef0123456789abcdef01234567"
CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="choice" toName="image"><Choice value="digit zero"/><Choice value="digit one"/></Choices></View>"""
PNGS = [digit_pngs(0)[0], digit_pngs(1)[0]]


@contextmanager
def start(folder: Path, port: int) -> Iterator[httpx2.Client]:
    """Run Label Studio on a fresh data folder, and yield a client of it with a token."""
    program = Path(python_with("label_studio")).parent / "label-studio"
    environment = {
        "PATH": str(program.parent),
        "HOME": str(folder),
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"),
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "DJANGO_DB": "sqlite",
        "USE_DEFAULT_BANNED_SUBNETS": "false",  # else it asks no backend and no webhook on loopback
    }
    options = ("--no-browser", "--port", str(port), "--username", USER, "--password", PASSWORD, "--user-token", TOKEN)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "start", *options], env=environment, cwd=folder, stdout=log, stderr=log)
    headers = {"Authorization": f"Token {TOKEN}"}
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:
            _wait(lambda: client.get("/health").status_code == 200, process, folder / "log")
            yield client
    finally:
        process.terminate()
        process.wait(30)


def _wait(is_ready: Any, process: subprocess.Popen[bytes], log: Path, seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            if is_ready():
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.5)
    pytest.fail(log.read_text()[-3000:])


@contextmanager
def serve_backend(served: Served, settings: Settings) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(create_app(settings, served.client), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def _sent(response: httpx2.Response) -> Any:
    assert response.status_code < 300, response.text[:2000]
    return response.json() if response.content else None


@pytest.mark.timeout(900)
def test_label_studio_gets_predictions_and_gives_feedback_and_exports(served: Served, tmp_path: Path) -> None:
    with start(tmp_path, free_port()) as studio:
        settings = Settings(str(studio.base_url), TOKEN, password=("studio", "secret"))
        with serve_backend(served, settings) as url:
            project = _sent(studio.post("/api/projects/", json={"title": "digits", "label_config": CONFIG}))["id"]
            for number, png in enumerate(PNGS):
                file = (f"{number}.png", io.BytesIO(png), "image/png")
                _sent(studio.post(f"/api/projects/{project}/import", files={"file": file}))
            login = {"auth_method": "BASIC_AUTH", "basic_auth_user": "studio", "basic_auth_pass": "secret"}
            backend = _sent(
                studio.post("/api/ml/", json={"project": project, "url": url, "title": "Paintbox", **login})
            )
            assert backend["state"] == "CO", backend
            hook = {
                "url": f"{url}/webhook",
                "project": project,
                "headers": {"Authorization": "Basic c3R1ZGlvOnNlY3JldA=="},
            }
            _sent(studio.post("/api/webhooks/", json={**hook, "send_payload": True, "send_for_all_actions": True}))
            everything = {"selectedItems": {"all": True, "excluded": []}, "project": project}
            _sent(
                studio.post(
                    f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}", json=everything, timeout=120
                )
            )
            tasks = _sent(studio.get(f"/api/tasks?project={project}&fields=all"))["tasks"]
            assert len(tasks) == len(PNGS)
            expected = served.client.classify(PNGS, labels=["digit zero", "digit one"], top_k=1)
            for task in tasks:
                number = int(task["data"]["image"].rpartition("-")[2].removesuffix(".png"))
                best = expected.results[number].predictions[0]
                (prediction,) = task["predictions"]
                (result,) = prediction["result"]
                assert result["value"]["choices"] == [best.label]
                assert prediction["score"] == pytest.approx(best.score, abs=1e-3)
                assert prediction["model_version"] == f"paintbox-{expected.version}"
                wrong = "digit one" if best.label == "digit zero" else "digit zero"
                answer = [{**result, "value": {"choices": [wrong]}, "id": "abc"}]
                _sent(studio.post(f"/api/tasks/{task['id']}/annotations/", json={"result": answer, "lead_time": 1.5}))
            deadline = time.monotonic() + 60
            while len(served.client.feedback(source="sent")) < len(PNGS):
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-3000:]
                time.sleep(0.2)
            for kind, name in (("JSON", "export.json"), ("JSON_MIN", "export.json"), ("CSV", "export.csv")):
                exported = studio.get(f"/api/projects/{project}/export", params={"exportType": kind}, timeout=120)
                assert exported.status_code == 200, exported.text[:1000]
                members = {name: exported.content, "0.png": PNGS[0], "1.png": PNGS[1]}
                plan = read(pack(tmp_path / "upload", members))
                assert (plan.layout, len(labels(plan))) == ("label-studio", len(PNGS)), kind
    stored = {(each.predicted, each.label) for each in served.client.feedback(source="sent")}
    assert all(predicted != label for predicted, label in stored)
