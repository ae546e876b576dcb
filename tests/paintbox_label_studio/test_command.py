"""`paintbox label-studio` serves only what its options allow."""

import threading
import time
from importlib.metadata import EntryPoint

import httpx2
import pytest
import typer
import uvicorn
from typer.testing import CliRunner

from paintbox_client import ClientError
from paintbox_client.connection import Connection
from paintbox_client.extensions import read_summary
from paintbox_label_studio.command import label_studio
from tests.app.conftest import free_port
from tests.paintbox_client.conftest import Served

COMMAND = typer.Typer()
COMMAND.command()(label_studio)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--host", "0.0.0.0"), "could use this backend"),
        (("--user", "x"), "belong together"),
        (("--label-studio", "localhost"), "not an HTTP address"),
        (("--local-files", "/nonexistent"), "No such folder"),
        (("--image-host", "s3://bucket"), "not an HTTP address"),
        (("--version", "nobody"), "nobody"),
    ],
)
def test_a_command_that_cannot_work_says_why(served: Served, options: tuple[str, ...], says: str) -> None:
    done = CliRunner().invoke(COMMAND, options, obj=Connection(served.url, patience_seconds=0))
    assert isinstance(done.exception, ClientError), done
    assert says in str(done.exception)


def test_the_command_serves_until_it_is_stopped(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    servers: list[uvicorn.Server] = []
    port = free_port()
    run = uvicorn.Server.run

    def remember(server: uvicorn.Server, *arguments: object) -> None:
        servers.append(server)
        run(server, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(uvicorn.Server, "run", remember)
    options = ("--port", str(port), "--host", "127.0.0.1", "--user", "u", "--password", "p")
    thread = threading.Thread(target=lambda: CliRunner().invoke(COMMAND, options, obj=Connection(served.url)))
    thread.start()
    deadline = time.monotonic() + 30
    while not (servers and servers[0].started):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    try:
        assert httpx2.get(f"http://127.0.0.1:{port}/health").json()["status"] == "UP"
        assert httpx2.post(f"http://127.0.0.1:{port}/predict", json={}).status_code == 401
    finally:
        servers[0].should_exit = True
        thread.join()


def test_the_list_of_commands_shows_what_it_does() -> None:
    entry = EntryPoint("label-studio", "paintbox_label_studio.command:label_studio", "paintbox.commands")
    assert read_summary(entry).startswith("Serve the predictions of Paintbox to Label Studio")
