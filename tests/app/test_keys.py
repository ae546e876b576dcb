"""Keys over HTTP: made once, taken at once, revoked for good; and what changes once there is one."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from app.access.callers import Caller
from app.access.keyring import Keyring
from app.http.errors import AccessRefusedError
from contract.access import Scope
from registry.database import Database
from registry.errors import ConfigurationError
from registry.keys import ApiKeys
from registry.tables import ApiKeyRow
from tests.app.world import World, check_problem, open_world
from tests.registry.clock import Clock

BOOTSTRAP = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def local(tmp_path: Path) -> Iterator[World]:
    """An application without any key."""
    with open_world(tmp_path) as world:
        yield world


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An application with a bootstrap key."""
    with open_world(tmp_path_factory.mktemp("keyed"), api_key=BOOTSTRAP) as world:
        yield world


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def make(world: World, *scopes: str, token: str | None = None, **options: Any) -> dict[str, Any]:
    body = {"name": "a team", "scopes": list(scopes), **options}
    response = world.client.post("/v1/keys", json=body, headers=bearer(token) if token else {})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def test_the_first_key_must_be_able_to_make_others(local: World) -> None:
    body = {"name": "ci", "scopes": ["read", "write"]}
    check_problem(local.client.post("/v1/keys", json=body), 409, "conflict")
    expiring = {"name": "ops", "scopes": ["admin"], "expires_in_days": 1}
    check_problem(local.client.post("/v1/keys", json=expiring), 409, "conflict")
    assert local.client.get("/v1/keys").json()["items"] == []
    assert local.client.get("/v1/system").status_code == 200


def test_once_there_is_a_key_every_request_needs_one(local: World) -> None:
    made = make(local, "admin")
    assert made["created_by"] == "api"
    for path in ("/v1/system", "/v1/keys", "/v1/nothing"):
        check_problem(local.client.get(path), 401, "unauthorised")
    assert local.client.get("/v1/system", headers=bearer(made["token"])).status_code == 200
    assert local.client.get("/livez", headers={"host": "patches.example.org"}).status_code == 200


def test_no_cache_may_store_the_answer_that_holds_a_token(local: World) -> None:
    made = local.client.post("/v1/keys", json={"name": "ops", "scopes": ["admin"]})
    assert made.json()["token"]
    assert made.headers["cache-control"] == "no-store"


def test_the_last_admin_cannot_be_revoked_and_the_door_stays_shut(local: World) -> None:
    first = make(local, "admin")
    admin = bearer(first["token"])
    check_problem(local.client.delete(f"/v1/keys/{first['id']}", headers=admin), 409, "conflict")
    second = make(local, "admin", token=first["token"])
    assert local.client.delete(f"/v1/keys/{first['id']}", headers=bearer(second["token"])).status_code == 200
    check_problem(local.client.get("/v1/system", headers=admin), 401, "key_revoked")
    check_problem(local.client.get("/v1/system"), 401, "unauthorised")


def test_a_key_is_shown_once_and_listed_without_its_token(keyed: World) -> None:
    made = make(keyed, "classify", "read", "read", token=BOOTSTRAP, expires_in_days=30)
    assert made["scopes"] == ["read", "classify"]
    assert made["created_by"] == "bootstrap (bootstrap)"
    listed = keyed.client.get("/v1/keys", headers=bearer(BOOTSTRAP))
    assert made["token"] not in listed.text
    assert listed.json()["items"][0] == {name: value for name, value in made.items() if name != "token"}


def test_a_revoked_key_opens_nothing_from_then_on(keyed: World) -> None:
    made = make(keyed, "read", token=BOOTSTRAP)
    assert keyed.client.get("/v1/jobs", headers=bearer(made["token"])).status_code == 200
    revoked = keyed.client.delete(f"/v1/keys/{made['id']}", headers=bearer(BOOTSTRAP)).json()
    assert revoked["revoked_at"] is not None
    problem = check_problem(keyed.client.get("/v1/jobs", headers=bearer(made["token"])), 401, "key_revoked")
    assert made["id"] in problem["detail"]


def test_a_refusal_names_the_scope_that_is_missing(keyed: World) -> None:
    made = make(keyed, "read", "classify", token=BOOTSTRAP)
    problem = check_problem(keyed.client.post("/v1/patches", headers=bearer(made["token"])), 403, "scope_missing")
    assert "scope write" in problem["detail"]
    assert "read, classify" in problem["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x"},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["everything"]},
        {"name": "", "scopes": ["read"]},
        {"name": "a\nb", "scopes": ["read"]},
        {"name": "x" * 65, "scopes": ["read"]},
        {"name": "x", "scopes": ["read"], "expires_in_days": 0},
        {"name": "x", "scopes": ["read"], "token": "mine"},
    ],
)
def test_a_key_that_makes_no_sense_is_refused(keyed: World, body: dict[str, Any]) -> None:
    before = keyed.client.get("/v1/keys", headers=bearer(BOOTSTRAP)).json()
    check_problem(keyed.client.post("/v1/keys", json=body, headers=bearer(BOOTSTRAP)), 422, "invalid_request")
    assert keyed.client.get("/v1/keys", headers=bearer(BOOTSTRAP)).json() == before


def test_the_history_of_an_alias_names_the_key_that_moved_it(keyed: World) -> None:
    made = make(keyed, "admin", token=BOOTSTRAP, name="release train")
    body = {"version": 1, "reason": "a test"}
    assert keyed.client.put("/v1/aliases/canary", json=body, headers=bearer(made["token"])).status_code == 200
    history = keyed.client.get("/v1/aliases/canary/history", headers=bearer(BOOTSTRAP)).json()["items"]
    assert [move["actor"] for move in history] == [f"release train ({made['id']})"]


def test_without_keys_the_history_names_the_api(local: World) -> None:
    local.client.put("/v1/aliases/canary", json={"version": 1})
    assert local.client.get("/v1/aliases/canary/history").json()["items"][0]["actor"] == "api"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'paintbox.db'}")
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return tmp_path / "keys.required"


def identify(keyring: Keyring, token: str) -> Caller:
    return keyring.identify(f"Bearer {token}")


def test_a_key_ends_at_its_hour(database: Database, keys_file: Path) -> None:
    clock = Clock()
    with database.write() as session:
        keys = ApiKeys(session, clock)
        ends = clock() + timedelta(days=1)
        _, token = keys.create(name="x", scopes=[Scope.READ], expires_at=ends, created_by="a test")
    keyring = Keyring(database, None, keys_file, clock)
    clock.advance(86_399)
    assert identify(keyring, token).scopes == {Scope.READ}
    clock.advance(1)
    with pytest.raises(AccessRefusedError) as refused:
        identify(keyring, token)
    assert refused.value.code == "key_expired"
    assert not keyring.is_open


def test_a_token_with_another_secret_or_id_is_wrong(database: Database, keys_file: Path) -> None:
    with database.write() as session:
        made = [
            ApiKeys(session).create(name="x", scopes=[Scope.READ], expires_at=None, created_by="a test")[1]
            for _ in range(2)
        ]
    keyring = Keyring(database, None, keys_file)
    ids, secrets = zip(*((token.split("_", 2)[1], token.split("_", 2)[2]) for token in made), strict=True)
    for wrong in (f"paintbox_{ids[0]}_{secrets[1]}", made[0][:-1], made[0] + "x", made[0].upper(), "", "é"):
        with pytest.raises(AccessRefusedError) as refused:
            identify(keyring, wrong)
        assert refused.value.code == "unauthorised"


def test_another_process_takes_and_refuses_keys_after_its_next_look(database: Database, keys_file: Path) -> None:
    elsewhere = Keyring(database, None, keys_file)
    assert elsewhere.is_open
    with database.write() as session:
        row, token = ApiKeys(session).create(name="x", scopes=[Scope.ADMIN], expires_at=None, created_by="a test")
    elsewhere.reload()
    assert identify(elsewhere, token) == Caller(row.id, "x", frozenset({Scope.ADMIN}))
    with database.write() as session:
        ApiKeys(session).revoke(row.id)
    assert identify(elsewhere, token).is_admin
    elsewhere.reload()
    with pytest.raises(AccessRefusedError):
        identify(elsewhere, token)


def test_keys_are_known_while_the_database_is_away(database: Database, keys_file: Path, tmp_path: Path) -> None:
    with database.write() as session:
        _, token = ApiKeys(session).create(name="x", scopes=[Scope.READ], expires_at=None, created_by="a test")
    keyring = Keyring(database, None, keys_file)
    database.close()
    for path in tmp_path.iterdir():
        path.unlink()
    assert identify(keyring, token).owner == "x"


def test_a_database_that_lost_its_keys_does_not_open_the_door(tmp_path: Path) -> None:
    with open_world(tmp_path) as before:
        make(before, "admin")
        with before.services.database.write() as session:  # as another process does that puts an empty one in its place
            session.execute(delete(ApiKeyRow))
        before.services.keyring.reload()
        check_problem(before.client.get("/v1/keys"), 401, "unauthorised")
    keys_file = tmp_path / "data" / "keys.required"
    with pytest.raises(ConfigurationError) as refused, open_world(tmp_path):
        pass
    assert str(keys_file) in str(refused.value)
    assert "start with PAINTBOX_API_KEY" in str(refused.value)
    with open_world(tmp_path, api_key=BOOTSTRAP) as rescued:
        check_problem(rescued.client.get("/v1/keys"), 401, "unauthorised")
        assert rescued.client.get("/v1/keys", headers=bearer(BOOTSTRAP)).status_code == 200
    keys_file.unlink()  # as it says
    with open_world(tmp_path) as anew:
        assert anew.client.get("/v1/keys").status_code == 200


def test_an_installation_whose_keys_are_older_than_the_file_gets_it_at_its_next_start(tmp_path: Path) -> None:
    with open_world(tmp_path) as world:
        make(world, "admin")
    keys_file = tmp_path / "data" / "keys.required"
    keys_file.unlink()
    with open_world(tmp_path):
        assert keys_file.stat().st_mode & 0o777 == 0o600
