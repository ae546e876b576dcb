"""Sessions of browsers: a cookie that stands for a key, and what other sites and other people cannot do with it."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from httpx2 import Response
from sqlalchemy import func, select

from registry.database import utc_now
from registry.sessions import MAX_PER_KEY
from registry.tables import BrowserSessionRow
from tests.app.test_keys import BOOTSTRAP, bearer, make
from tests.app.world import World, check_problem, open_world


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("sessions"), api_key=BOOTSTRAP) as world:
        yield world


@pytest.fixture
def admin(keyed: World) -> Iterator[dict[str, str]]:
    """The headers of a session of the bootstrap key; the cookie is the client's."""
    yield open_session(keyed, BOOTSTRAP)
    keyed.client.cookies.clear()


def open_session(world: World, token: str) -> dict[str, str]:
    opened = world.client.post("/v1/session", headers=bearer(token))
    assert opened.status_code == 201, opened.text
    return {"x-csrf-token": opened.json()["csrf_token"]}


def cookie_of(response: Response) -> str:
    return response.headers["set-cookie"].lower()


def test_a_session_reads_and_changes_as_its_key_does(keyed: World, admin: dict[str, str]) -> None:
    assert keyed.client.get("/v1/jobs").status_code == 200
    made = keyed.client.post("/v1/keys", json={"name": "a team", "scopes": ["read"]}, headers=admin)
    assert made.status_code == 201
    assert made.json()["created_by"] == "bootstrap (bootstrap)"


def test_the_cookie_is_closed_to_scripts_and_other_sites(keyed: World) -> None:
    plain = cookie_of(keyed.client.post("/v1/session", headers=bearer(BOOTSTRAP)))
    assert {"httponly", "samesite=strict", "path=/"} <= set(plain.split("; "))
    assert "secure" not in plain
    encrypted = {**bearer(BOOTSTRAP), "origin": "https://patches.example.org"}
    assert "; secure" in cookie_of(keyed.client.post("/v1/session", headers=encrypted))
    keyed.client.cookies.clear()


def test_two_services_on_one_host_do_not_share_a_cookie(keyed: World) -> None:
    names = [
        cookie_of(keyed.client.post("/v1/session", headers={**bearer(BOOTSTRAP), "host": host})).partition("=")[0]
        for host in ("localhost:8321", "localhost:8322", "paint.example.org", "[::1]:8321")
    ]
    assert names == ["paintbox_session_8321", "paintbox_session_8322", "paintbox_session", "paintbox_session_8321"]
    keyed.client.cookies.clear()


@pytest.mark.parametrize("headers", [{}, {"x-csrf-token": ""}, {"x-csrf-token": "0" * 64}])
def test_a_change_without_the_sessions_token_is_refused(
    keyed: World, admin: dict[str, str], headers: dict[str, str]
) -> None:
    assert admin
    body = {"name": "forged", "scopes": ["admin"]}
    check_problem(keyed.client.post("/v1/keys", json=body, headers=headers), 403, "csrf_refused")
    check_problem(keyed.client.delete("/v1/session", headers=headers), 403, "csrf_refused")
    assert keyed.client.get("/v1/session").json()["expires_at"] is not None


def test_a_session_has_the_scopes_of_its_key_and_no_more(keyed: World) -> None:
    made = make(keyed, "classify", token=BOOTSTRAP)
    headers = open_session(keyed, made["token"])
    found = keyed.client.get("/v1/session").json()
    assert (found["key_id"], found["owner"], found["scopes"]) == (made["id"], "a team", ["classify"])
    check_problem(keyed.client.get("/v1/jobs"), 403, "scope_missing")
    check_problem(keyed.client.post("/v1/gc", headers=headers), 403, "scope_missing")
    keyed.client.cookies.clear()


def test_a_session_ends_when_it_is_closed(keyed: World, admin: dict[str, str]) -> None:
    kept = dict(keyed.client.cookies)
    assert keyed.client.delete("/v1/session", headers=admin).status_code == 204
    assert not keyed.client.cookies
    keyed.client.cookies.update(kept)
    check_problem(keyed.client.get("/v1/jobs"), 401, "session_ended")


def test_a_session_ends_with_its_key(keyed: World) -> None:
    made = make(keyed, "read", token=BOOTSTRAP)
    open_session(keyed, made["token"])
    assert keyed.client.get("/v1/jobs").status_code == 200
    keyed.client.delete(f"/v1/keys/{made['id']}", headers=bearer(BOOTSTRAP))
    check_problem(keyed.client.get("/v1/jobs"), 401, "key_revoked")
    keyed.client.cookies.clear()


def test_a_session_ends_when_its_time_has_passed(keyed: World, admin: dict[str, str]) -> None:
    assert admin
    with keyed.services.database.write() as session:
        for row in session.scalars(select(BrowserSessionRow)):
            row.expires_at = utc_now() - timedelta(seconds=1)
    keyed.services.sessions._cached.clear()
    check_problem(keyed.client.get("/v1/jobs"), 401, "session_ended")
    open_session(keyed, BOOTSTRAP)  # which deletes what has expired
    with keyed.services.database.read() as session:
        assert session.scalar(select(func.count()).where(BrowserSessionRow.expires_at <= utc_now())) == 0


def test_a_session_ends_when_the_bootstrap_key_is_replaced(tmp_path: Path) -> None:
    with open_world(tmp_path, api_key=BOOTSTRAP) as world:
        open_session(world, BOOTSTRAP)
        cookies = dict(world.client.cookies)
    with open_world(tmp_path, api_key=BOOTSTRAP[::-1]) as world:
        world.client.cookies.update(cookies)
        check_problem(world.client.get("/v1/jobs"), 401, "session_ended")


def test_sessions_of_a_key_are_bounded(keyed: World) -> None:
    made = make(keyed, "read", token=BOOTSTRAP)
    open_session(keyed, made["token"])
    first = dict(keyed.client.cookies)
    for _ in range(MAX_PER_KEY):
        keyed.services.sessions.open(made["id"])
    with keyed.services.database.read() as session:
        of_key = select(func.count()).where(BrowserSessionRow.key_id == made["id"])
        assert session.scalar(of_key) == MAX_PER_KEY
    keyed.services.sessions._cached.clear()
    keyed.client.cookies.update(first)
    check_problem(keyed.client.get("/v1/jobs"), 401, "session_ended")
    keyed.client.cookies.clear()


def test_the_database_holds_neither_the_token_nor_the_key(keyed: World, admin: dict[str, str]) -> None:
    token = next(iter(keyed.client.cookies.values()))
    with keyed.services.database.read() as session:
        held = [(row.sha256, row.proof, row.key_id) for row in session.scalars(select(BrowserSessionRow))]
    assert not {token, BOOTSTRAP, admin["x-csrf-token"]} & {value for row in held for value in row}


@pytest.mark.parametrize("cookie", ["", "x", "é", "0" * 43, "a" * 5000])
def test_a_cookie_that_is_no_session_opens_nothing(keyed: World, cookie: str) -> None:
    headers = {"cookie": f"paintbox_session_8321={cookie}".encode(), "host": b"127.0.0.1:8321"}
    check_problem(keyed.client.get("/v1/jobs", headers=headers), 401, "session_ended")  # type: ignore[arg-type]


def test_a_key_in_the_request_counts_and_not_the_cookie(keyed: World, admin: dict[str, str]) -> None:
    assert admin
    made = make(keyed, "read", token=BOOTSTRAP)
    assert keyed.client.get("/v1/session", headers=bearer(made["token"])).json()["key_id"] == made["id"]
    check_problem(keyed.client.get("/v1/jobs", headers=bearer("wrong")), 401, "unauthorised")


def test_without_keys_there_is_no_session_and_everything_is_allowed(tmp_path: Path) -> None:
    with open_world(tmp_path) as world:
        opened = world.client.post("/v1/session")
        assert "set-cookie" not in opened.headers
        assert opened.json() == {"key_id": None, "owner": None, "scopes": ["admin"]} | dict.fromkeys(
            ("expires_at", "csrf_token")
        )
