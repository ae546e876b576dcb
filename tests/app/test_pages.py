"""Web pages: the one of the service, and those of others; and a service that a proxy publishes below a prefix."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest
from starlette.testclient import TestClient

from app.settings import AppSettings
from registry.errors import ConfigurationError
from tests.app.world import LOCAL, World, check_problem, open_world

PAGE = "https://app.example.com"
KEY = "0123456789abcdef0123456789abcdef"
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A service behind a proxy: with a key, a prefix, and pages that may use it."""
    options = {"api_key": KEY, "root_path": "/paint/", "allowed_origins": (PAGE,)}
    with open_world(tmp_path_factory.mktemp("published"), **options) as world:
        world.client.headers["authorization"] = f"Bearer {KEY}"
        yield world


def test_the_page_of_the_service_runs_only_scripts_of_its_own(client: TestClient) -> None:
    page = client.get("/docs")
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(named) == 4
    for path in named:
        asset = client.get(urljoin("/docs", path))
        assert asset.status_code == 200, path
        assert len(asset.content) > 100
    assert "//" not in re.sub("<!DOCTYPE html>", "", page.text)
    assert re.findall(r"<script>|<style| on[a-z]+=", page.text) == []
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert page.headers["x-frame-options"] == "DENY"


def test_the_page_leaves_no_folder(client: TestClient) -> None:
    for path in (
        "/docs/assets/../__init__.py",
        "/docs/assets/%2e%2e/main.py",
        "/docs/assets/",
        "/docs/assets//etc/passwd",
    ):
        assert client.get(path).status_code in (404, 405)


def test_a_preflight_is_answered_before_the_key_is_asked_for(published: World) -> None:
    for path in ("/v1/classify", "/v1/uploads/x", "/v2/models/paintbox/infer", "/paint/v1/classify"):
        answer = published.client.options(path, headers=PREFLIGHT | {"origin": PAGE, "authorization": ""})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "PATCH" in answer.headers["access-control-allow-methods"]
        assert "authorization" in answer.headers["access-control-allow-headers"]
    stranger = published.client.options("/v1/classify", headers=PREFLIGHT | {"origin": "https://evil.example.com"})
    assert "access-control-allow-origin" not in stranger.headers


def test_pages_may_read_answers_and_errors(published: World) -> None:
    for path, key, status in (
        ("/v1/system", KEY, 200),
        ("/v1/system", "x", 401),
        ("/v1/jobs/x", KEY, 404),
        ("/x", KEY, 404),
    ):
        answer = published.client.get(path, headers={"origin": PAGE, "authorization": f"Bearer {key}"})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "Location" in answer.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in answer.headers


def test_a_bug_of_ours_can_be_read_by_pages_too(tmp_path: Path) -> None:
    with open_world(tmp_path, allowed_origins=(PAGE,)) as world:
        with world.services.database.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE job_events")
            connection.exec_driver_sql("DROP TABLE jobs")
        answer = world.client.get("/v1/jobs", headers={"origin": PAGE})
        check_problem(answer, 500, "internal_error")
        assert answer.headers["access-control-allow-origin"] == PAGE


def test_without_a_key_only_pages_that_are_named_may_ask(tmp_path: Path) -> None:
    with open_world(tmp_path, allowed_origins=(PAGE, "*")) as world:
        assert world.client.get("/v1/system", headers={"origin": PAGE}).status_code == 200
        for origin in ("https://evil.example.com", "null", "http://app.example.com", f"{PAGE}:444"):
            problem = check_problem(world.client.get("/v1/system", headers={"origin": origin}), 403, "origin_refused")
            assert "PAINTBOX_ALLOWED_ORIGINS" in problem["next"]


@pytest.mark.parametrize(
    "origin", ["https://a/b", "a.example.com", "https://A.example.com", "ftp://a", "https://a/", ""]
)
def test_what_is_no_origin_stops_the_start(origin: str) -> None:
    with pytest.raises(ConfigurationError, match="PAINTBOX_ALLOWED_ORIGINS"):
        AppSettings.load(allowed_origins=(origin,))


@pytest.mark.parametrize("prefix", ["paint", "/..", "/a b", "/../x?", "/a//b", "http://x/"])
def test_what_is_no_prefix_stops_the_start(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="PAINTBOX_ROOT_PATH"):
        AppSettings.load(root_path=prefix)


def test_links_have_the_prefix(published: World) -> None:
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "10"}
    upload = published.client.post("/v1/uploads", headers=headers)
    assert re.fullmatch("/paint/v1/uploads/[0-9a-f]{32}", upload.headers["location"])
    assert published.client.head(upload.headers["location"], headers=headers).status_code == 200
    created = published.client.post("/v1/label-sets", json={"name": "a", "labels": ["a", "b"]})
    assert created.headers["location"].startswith("/paint/v1/label-sets/")
    assert published.client.get("/openapi.json").json()["servers"] == [{"url": "/paint"}]


def test_links_of_jobs_have_the_prefix(published: World) -> None:
    with published.services.database.write() as session:
        from contract.jobs import JobKind
        from registry.jobs import Jobs

        job = Jobs(session).create(JobKind.PATCH, "pt_x").id
    for path in (f"/v1/jobs/{job}", f"/paint/v1/jobs/{job}"):
        links = published.client.get(path).json()["links"]
        assert links["self"] == f"/paint/v1/jobs/{job}"
        assert links["subject"] == "/paint/v1/patches/pt_x"


def test_a_redirect_to_the_path_without_a_slash_names_no_host(published: World, client: TestClient) -> None:
    headers = {"host": "patches.example.org"}
    answer = published.client.get("/paint/v1/versions/?limit=3", headers=headers, follow_redirects=False)
    assert answer.status_code == 307
    assert answer.headers["location"] == "/paint/v1/versions?limit=3"
    assert client.get("/v1/versions/", follow_redirects=False).headers["location"] == "/v1/versions"
    assert client.get("/v1/versions/").status_code == 200


def test_a_prefix_hides_nothing_from_access_control(published: World) -> None:
    for path in ("/paint/v1/system", "/v1/system", "/paint/v2", "/paint/hf/zero-shot-image-classification"):
        assert published.client.get(path, headers={"authorization": ""}).status_code == 401
    for path in ("/paint/paint/v1/system", "/paintv1/system", "//paint/v1/system", "/paint//v1/system"):
        assert published.client.get(f"{LOCAL}{path}", headers={"authorization": ""}).status_code == 404
    assert published.client.get("/paint/v1/system").status_code == 200
    assert published.client.get("/paint/livez", headers={"authorization": ""}).status_code == 200


def test_probes_and_metrics_answer_head(client: TestClient) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"):
        answer = client.head(path)
        assert answer.status_code == 200, path
        assert answer.headers["content-type"] == client.get(path).headers["content-type"]
    refused = client.head("/v1/versions")
    assert refused.status_code == 405
    assert refused.headers["allow"] == "GET, POST" or "GET" in refused.headers["allow"]


def test_head_operations_are_not_documented_twice(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert [path for path, operations in paths.items() if "head" in operations] == ["/v1/uploads/{upload_id}"]
