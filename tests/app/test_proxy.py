"""The configurations of docs/proxy.md, with real proxies in front of a real server."""

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import httpx2
import pytest

from app.http.connections.limits import ConnectionLimits
from app.http.connections.table import Connections
from contract.jobs import JobKind
from registry.jobs import Jobs
from tests.app.conftest import free_port
from tests.app.world import World, listen, open_world
from tests.project.paths import ROOT

KEY = "0123456789abcdef0123456789abcdef"
LARGE = 40 << 20
NGINX = """daemon off; master_process off; worker_rlimit_nofile 1024; pid {folder}/pid; error_log {folder}/error.log;
events {{ }}
http {{
access_log off; default_type text/plain;
client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d;
scgi_temp_path {folder}/e;
{documented}
server {{ listen 127.0.0.1:{plain}; client_max_body_size 0; location / {{ proxy_pass http://127.0.0.1:{port}; }} }}
}}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    limits = {"max_request_bytes": 64 << 20, "max_upload_bytes": 5 << 20}
    with open_world(tmp_path_factory.mktemp("world"), api_key=KEY, root_path="/paint", **limits) as opened:
        yield opened


@pytest.fixture(scope="module")
def connections() -> Connections:
    return Connections(ConnectionLimits())


@pytest.fixture(scope="module", params=["nginx", "nginx with its defaults", "caddy"])
def url(
    request: pytest.FixtureRequest, world: World, connections: Connections, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    name = request.param.partition(" ")[0]
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"needs {name}")
    folder, documented, plain = tmp_path_factory.mktemp(name), free_port(), free_port()
    with listen(world.client.app, connections) as (_, port):
        text = re.findall(f"```{name}\n(.*?)```", (ROOT / "docs" / "proxy.md").read_text(encoding="utf-8"), re.DOTALL)[
            0
        ]
        text = text.replace("127.0.0.1:8321", f"127.0.0.1:{port}").replace("443 ssl", f"127.0.0.1:{documented}")
        text = re.sub(r" *ssl_.*\n", "", text)
        if name == "nginx":
            text = NGINX.format(folder=folder, documented=text, plain=plain, port=port)
            command = [program, "-c", str(folder / "conf"), "-p", str(folder), "-e", str(folder / "error.log")]
        else:
            text = "{\nadmin off\nauto_https off\n}\n" + text.replace(
                "models.example.com {", f"http://127.0.0.1:{documented} {{"
            )
            command = [program, "run", "--adapter", "caddyfile", "--config", str(folder / "conf")]
        (folder / "conf").write_text(text)
        environment = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        with (folder / "out").open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        address = f"http://127.0.0.1:{plain if 'defaults' in request.param else documented}/paint"
        try:
            wait_for(address, process, folder)
            yield address
        finally:
            process.terminate()
            process.wait()


def wait_for(address: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, (folder / "out").read_text()
        try:
            if httpx2.get(f"{address}/livez").status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.05)
    raise AssertionError((folder / "out").read_text())


@pytest.fixture
def client() -> Iterator[httpx2.Client]:
    with httpx2.Client(headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as opened:
        yield opened


def test_the_page_and_what_it_names_are_there(url: str, client: httpx2.Client) -> None:
    page = client.get(f"{url}/docs")
    for path in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert client.get(urljoin(f"{url}/docs", path)).status_code == 200
    document = client.get(urljoin(f"{url}/docs", "openapi.json")).json()
    assert document["servers"] == [{"url": "/paint"}]


def test_an_upload_goes_on_where_its_location_says(url: str, client: httpx2.Client) -> None:
    tus = {"Tus-Resumable": "1.0.0"}
    begun = client.post(f"{url}/v1/uploads", headers=tus | {"Upload-Length": str(3 << 20)})
    place = urljoin(f"{url}/v1/uploads", begun.headers["location"])
    for offset in (0, 1 << 20, 2 << 20):
        headers = tus | {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        assert client.patch(place, headers=headers, content=bytes(1 << 20)).status_code == 204
    assert client.head(place, headers=tus).headers["upload-offset"] == str(3 << 20)


def test_events_arrive_at_once(url: str, client: httpx2.Client, world: World) -> None:
    with world.services.database.write() as session:
        job = Jobs(session).create(JobKind.PATCH, "pt_x").id
    with client.stream("GET", f"{url}/v1/jobs/{job}/events", headers={"Accept": "text/event-stream"}) as response:
        assert response.status_code == 200
        assert b"retry" in next(response.iter_raw())


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/v1/classify/nothing", {}, 404),
        ("POST", "/v1/classify", {"Content-Type": "text/plain"}, 415),
        ("POST", "/v1/classify", {"Content-Encoding": "gzip"}, 415),
        ("POST", "/v1/classify", {"Authorization": "Bearer x"}, 401),
        ("POST", "/v1/datasets", {"Content-Type": "multipart/form-data; boundary=x"}, 413),
        ("DELETE", "/v1/classify", {}, 405),
        ("PATCH", f"/v1/uploads/{'0' * 32}", {"Tus-Resumable": "1.0.0", "Upload-Offset": "0"}, 413),
    ],
)
def test_the_refusal_of_a_large_body_arrives(
    url: str, client: httpx2.Client, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    for _ in range(3):
        answer = client.request(method, url + path, headers=headers, content=bytes(LARGE))
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    assert client.get(f"{url}/livez").status_code == 200


def test_connections_are_used_again(url: str, client: httpx2.Client, connections: Connections) -> None:
    threads = [threading.Thread(target=httpx2.get, args=(f"{url}/livez",)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(20):
        assert client.get(f"{url}/v1/system").status_code == 200
    assert len(connections) <= 35
    ours = client.get(f"{url}/livez", headers={"X-Request-Id": "from-outside"}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f-]{32,36}|from-outside", ours)
