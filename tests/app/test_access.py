"""Who may ask: keys, hosts, origins; and how much may be sent."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient

from tests.app.world import LOCAL, PROBLEM, World, check_problem, open_world, serve

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An application with a key and small limits, as other machines would see it."""
    limits = {
        "max_upload_bytes": 100_000,
        "max_image_bytes": 10_000,
        "max_images_per_request": 4,
        "max_request_bytes": 60_000,
    }
    with open_world(tmp_path_factory.mktemp("locked"), host="0.0.0.0", api_key=KEY, **limits) as world:
        yield world


def test_every_v1_route_wants_the_key(locked: World) -> None:
    routes = [path for path in locked.client.get("/openapi.json").json()["paths"] if path.startswith("/v1")]
    assert len(routes) > 10
    for path in [*routes, "/v1/nothing"]:
        for authorization in ("", KEY, f"Bearer {KEY}x", "Bearer ", f"Basic {KEY}", "Bearer \xe9"):
            headers = {"authorization": authorization.encode("latin-1")} if authorization else {}
            response = locked.client.get(path, headers=headers)
            check_problem(response, 401, "unauthorised")
            assert response.headers["www-authenticate"].startswith("Bearer")


def test_the_key_opens_and_probes_need_none(locked: World) -> None:
    assert locked.client.get("/v1/system", headers={"authorization": f"Bearer {KEY}"}).status_code == 200
    assert locked.client.get("/v1/system", headers={"authorization": f"bearer {KEY}"}).status_code == 200
    for path in ("/livez", "/readyz", "/openapi.json", "/docs"):
        assert locked.client.get(path).status_code == 200


def test_with_a_key_any_host_may_be_asked_for(locked: World) -> None:
    headers = {"authorization": f"Bearer {KEY}", "host": "patches.example.org", "origin": "https://other.example.org"}
    assert locked.client.get("/v1/system", headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:8321", "127.0.0.1:1", "[::1]:8321", "LOCALHOST"])
def test_without_a_key_local_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/v1/system", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example.org", "127.0.0.1.evil.example.org", "localhost@evil", "", "[::1", "0.0.0.0"),
        *(
            "user@127.0.0.1",
            "127.0.0.1#evil",
            "127.0.0.1/evil",
            "127.0.0.1?x",
            "127.0.0.1:",
            "127.0.0.1:x",
            "127.0.0.1 ",
        ),
        *("::1", "localhost.", "127.0.0.1:80:80", "127.0.0.1,evil", "[127.0.0.1]"),
    ],
)
def test_without_a_key_other_names_are_refused_on_every_route(client: TestClient, host: str) -> None:
    for path in ("/v1/system", "/livez", "/nothing"):
        check_problem(client.get(path, headers={"host": host}), 403, "host_refused")


@pytest.mark.parametrize(
    "origin",
    [
        *("http://evil.example.org", "null", "http://127.0.0.1:1", "http://127.0.0.1:8321.evil", "http://["),
        *("chrome-extension://127.0.0.1:8321", "file://127.0.0.1:8321", "127.0.0.1:8321", ""),
    ],
)
def test_without_a_key_pages_of_others_are_refused(client: TestClient, origin: str) -> None:
    response = client.post("/v1/jobs/x/cancel", headers={"origin": origin})
    check_problem(response, 403, "origin_refused")


def test_of_two_headers_that_must_be_one_neither_counts(client: TestClient, locked: World) -> None:
    hosts = [("host", "127.0.0.1:8321"), ("host", "evil.example.org")]
    for headers in (hosts, hosts[::-1]):
        check_problem(client.get("/v1/system", headers=headers), 403, "host_refused")
    origins = [("origin", LOCAL), ("origin", "http://evil.example.org")]
    for headers in (origins, origins[::-1]):
        check_problem(client.get("/v1/system", headers=headers), 403, "origin_refused")
    keys = [("authorization", f"Bearer {KEY}"), ("authorization", "Bearer x")]
    for headers in (keys, keys[::-1], [keys[0], keys[0]]):
        problem = check_problem(locked.client.get("/v1/system", headers=headers), 401, "unauthorised")
        assert "several" in problem["detail"]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_without_a_key_pages_of_others_start_nothing_by_an_image_or_a_link(client: TestClient, site: str) -> None:
    for path in ("/v1/versions/1/export", "/v1/system", "/v2", "/hf/x"):
        response = client.get(path, headers={"sec-fetch-site": site})
        assert response.status_code == 403
    assert client.get("/docs", headers={"sec-fetch-site": site}).status_code == 200
    assert client.get("/v1/system", headers={"sec-fetch-site": "same-origin"}).status_code == 200
    assert client.get("/v1/system", headers={"sec-fetch-site": "none"}).status_code == 200


def test_its_own_pages_may_ask(client: TestClient) -> None:
    assert client.get("/v1/system", headers={"origin": LOCAL}).status_code == 200


def test_a_body_whose_stated_length_is_too_large_is_refused_unread(locked: World) -> None:
    for path, size in (("/v1/classify", 2_000_000), ("/v1/datasets", 2_000_000), ("/v1/patches", 2_000_000)):
        response = locked.client.post(path, content=bytes(size), headers={"authorization": f"Bearer {KEY}"})
        check_problem(response, 413, "body_too_large")


@pytest.mark.parametrize("media_type", ["application/json", "multipart/form-data; boundary=x"])
@pytest.mark.parametrize("path", ["/v1/classify", "/v1/datasets", "/v1/patches"])
def test_a_body_of_unknown_length_is_counted_on_a_real_connection(locked: World, path: str, media_type: str) -> None:
    field = "images" if path == "/v1/classify" else "archive"  # a file in an unknown field is refused sooner

    def chunks() -> Iterator[bytes]:
        yield f'--x\r\nContent-Disposition: form-data; name="{field}"; filename="a.zip"\r\n\r\n'.encode()
        for _ in range(300):
            yield bytes(100_000)

    if path == "/v1/datasets" and media_type == "application/json":
        return  # a form route that is sent JSON does not read the body as a form
    headers = {"authorization": f"Bearer {KEY}", "content-type": media_type}
    with serve(locked) as url:
        response = httpx2.post(url + path, content=chunks(), headers=headers)
        check_problem(response, 413, "body_too_large")
        assert httpx2.get(f"{url}/livez").status_code == 200
    assert list(locked.services.settings.scratch_dir.iterdir()) == []


def test_request_ids_come_back_if_they_are_harmless(client: TestClient) -> None:
    assert client.get("/livez", headers={"x-request-id": "abc-1.2_3"}).headers["x-request-id"] == "abc-1.2_3"
    for harmful in ("a b", "x" * 65, "a\tb", '"', "é".encode()):
        given = client.get("/livez", headers={"x-request-id": harmful}).headers["x-request-id"]
        assert len(given) == 32
    first, second = (client.get("/livez").headers["x-request-id"] for _ in range(2))
    assert first != second


def test_answers_may_not_be_sniffed(client: TestClient) -> None:
    for path in ("/livez", "/nothing"):
        assert client.get(path).headers["x-content-type-options"] == "nosniff"


def test_a_bug_of_ours_tells_no_internals_but_the_request(tmp_path: Path) -> None:
    with open_world(tmp_path) as world:
        with world.services.database.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE job_events")
            connection.exec_driver_sql("DROP TABLE jobs")
        response = world.client.get("/v1/jobs", headers={"x-request-id": "find-me"})
        problem = check_problem(response, 500, "internal_error")
        assert response.headers["content-type"] == PROBLEM
        assert "find-me" in problem["next"]
        assert "jobs" not in problem["detail"]


def test_unknown_routes_and_methods_are_problems(client: TestClient) -> None:
    check_problem(client.get("/nothing"), 404, "route_not_found")
    response = client.delete("/v1/versions")
    check_problem(response, 405, "method_not_allowed")
    assert "GET" in response.headers["allow"]


def test_texts_that_utf8_cannot_carry_are_a_problem_not_a_crash(client: TestClient) -> None:
    body = b'{"name": "\\ud800", "tasks": ["x"], "\\ud800": 1}'
    response = client.post("/v1/patches", content=body, headers={"content-type": "application/json"})
    check_problem(response, 422, "invalid_request")
