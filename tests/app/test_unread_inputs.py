"""What a route would not read is refused, on every route: an option in the wrong place is not dropped silently."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from app.datasets.endpoints import FIELDS
from registry.versions import Versions
from tests.app.test_authorisation import BODIES, DOCUMENT, ROUTES, Route
from tests.app.world import World, add_version, check_plain_error, check_problem, open_world, serve
from tests.builders import digit_pngs

IDS = {
    **dict.fromkeys(
        ("dataset_id", "patch_id", "evaluation_id", "approval_id", "job_id", "label_set_id", "key_id", "feedback_id"),
        "none",
    ),
    **{"version_id": "1", "alias": "active", "upload_id": "0" * 32, "model_name": "paintbox", "model_version": "1"},
    **{"split": "train", "row": "0"},
}
PROTECTED = [route for route in ROUTES if route.scope is not None]
READ_THEIR_QUERY_BESIDE_A_RAW_IMAGE = {"POST /v1/classify", "POST /v1/embed", "POST /v1/feedback"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("unread"), trash_retention_seconds=0) as world:
        yield world


def operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][route.path][route.method.lower()]
    return found


def check_refusal(route: Route, response: Any, said: str) -> None:
    if route.method == "HEAD":
        assert response.status_code == 422
    elif route.path.startswith(("/v2", "/hf")):
        assert said in check_plain_error(response, 422)
    else:
        assert said in check_problem(response, 422, "invalid_request")["detail"]


@pytest.mark.parametrize("route", PROTECTED, ids=str)
def test_an_unknown_query_parameter_is_refused(world: World, route: Route) -> None:
    for name in ("dryrun", "Limit", "limit[]", " limit", "\x00", "version;", "x" * 1000):
        response = world.client.request(route.method, route.url(IDS), params={name: "1"}, json=BODIES.get(str(route)))
        check_refusal(route, response, "not a query parameter of this route")


@pytest.mark.parametrize("route", [each for each in PROTECTED if "requestBody" not in operation(each)], ids=str)
def test_a_body_is_refused_where_none_is_read(world: World, route: Route) -> None:
    def chunks() -> Iterator[bytes]:
        yield b""
        yield b'{"dry_run":'
        yield b"true}"

    headers = {"content-type": "application/json", "tus-resumable": "1.0.0"}
    for content in (b'{"dry_run":true}', b" ", chunks()):
        response = world.client.request(route.method, route.url(IDS), content=content, headers=headers)
        check_refusal(route, response, "body: is not accepted by this route")


@pytest.mark.parametrize("route", PROTECTED, ids=str)
def test_a_parameter_that_is_read_once_may_not_be_there_twice(world: World, route: Route) -> None:
    if str(route) in READ_THEIR_QUERY_BESIDE_A_RAW_IMAGE:
        return
    for each in operation(route).get("parameters", []):
        if each["in"] == "query" and "array" not in str(each["schema"]):
            name = each["name"]
            response = world.client.request(route.method, f"{route.url(IDS)}?{name}=1&{name}=0")
            check_refusal(route, response, "is given more than once")


def test_garbage_is_only_collected_where_it_was_asked_for(world: World) -> None:
    version, _ = add_version(world.services, world.base, seed=9)
    assert world.client.delete(f"/v1/versions/{version}").status_code == 200
    for request in (
        {"json": {"dry_run": True}},
        {"params": {"dryrun": "true"}},
        {"params": {"dry-run": "true"}},
        {"params": [("dry_run", "true"), ("dry_run", "false")]},
        {"data": {"dry_run": "true"}},
        {"files": {"dry_run": b"true"}},
        {"params": {"dry_run": "maybe"}},
    ):
        check_problem(world.client.request("POST", "/v1/gc", **request), 422, "invalid_request")  # type: ignore[arg-type]
    with world.services.database.read() as session:
        assert Versions(session).get(version).deleted_at is not None
    assert world.client.post("/v1/gc", params={"dry_run": True}).json()["versions"] == [version]
    assert world.client.post("/v1/gc").json()["versions"] == [version]


def test_a_body_of_no_bytes_is_none(world: World) -> None:
    for content in (None, b"", iter([b"", b""])):
        assert world.client.request("GET", "/v1/jobs", content=content).status_code == 200
    with serve(world) as address:
        host, port = address.removeprefix("http://").split(":")
        for sent, status in (
            (b"Content-Length: 0\r\n\r\n", 200),
            (b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200),
            (b"\r\n", 200),
            (b"Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n", 422),
            (b"Content-Length: 1\r\n\r\n1", 422),
        ):
            with socket.create_connection((host, int(port)), 30) as connection:
                connection.sendall(f"POST /v1/gc?dry_run=1 HTTP/1.1\r\nHost: {host}\r\n".encode() + sent)
                assert connection.recv(4096).startswith(f"HTTP/1.1 {status} ".encode())


def test_options_in_the_query_beside_a_form_or_json_are_refused(world: World) -> None:
    image = digit_pngs(0)[0]
    for path in ("/v1/classify", "/v1/embed"):
        for body in ({"json": {}}, {"files": {"images": image}}):
            response = world.client.post(f"{path}?version=1", **body)  # type: ignore[arg-type]
            assert "query.version" in check_problem(response, 422, "invalid_request")["detail"]
        form = {"data": {"version": ["1", "active"]}, "files": {"images": image}}
        response = world.client.post(path, **form)  # type: ignore[arg-type]
        assert "body.version: is given more than once" in check_problem(response, 422, "invalid_request")["detail"]
    raw = {"content": image, "headers": {"content-type": "image/png"}}
    assert world.client.post("/v1/embed?version=1", **raw).status_code == 200  # type: ignore[arg-type]


def test_unknown_and_repeated_fields_of_an_upload_are_refused(world: World) -> None:
    files = {"archive": ("a.zip", b"PK", "application/zip")}
    told = DOCUMENT["paths"]["/v1/datasets"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]["$ref"]
    assert DOCUMENT["components"]["schemas"][told.rpartition("/")[2]]["properties"].keys() == FIELDS
    for data, named in (({"tempaltes": "a {}"}, "tempaltes"), ({"name": ["a", "b"]}, "name")):
        response = world.client.post("/v1/datasets", data={"name": "d"} | data, files=files)
        assert f"body.{named}" in check_problem(response, 422, "invalid_request")["detail"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/v2/health/live"])
def test_probes_and_scrapers_may_send_what_they_like(world: World, path: str) -> None:
    assert world.client.get(path, params={"t": "1"}).status_code == 200
