"""`paintbox keys` and its Python twin against a real service that has a bootstrap key."""

from collections.abc import Iterator

import pytest

from contract import access
from paintbox_client import ApiError, Client
from paintbox_client.key_commands import Scope
from tests.app.world import open_world, serve
from tests.paintbox_client.inside import run

BOOTSTRAP = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service that wants keys."""
    with open_world(tmp_path_factory.mktemp("locked"), api_key=BOOTSTRAP) as world, serve(world) as url:
        yield url


def test_the_client_knows_the_scopes_that_there_are() -> None:
    assert [scope.value for scope in Scope] == [scope.value for scope in access.Scope]


def test_a_key_is_made_used_listed_and_revoked(locked: str) -> None:
    with Client(locked, BOOTSTRAP) as admin:
        made = admin.create_key("ci", ["read", "classify"], expires_in_days=7)
        assert admin.session().scopes == ["admin"]
        with Client(locked, made["token"]) as user:
            assert user.jobs() == []
            with pytest.raises(ApiError, match="scope write") as refused:
                user.compose("x", [{"version": 1}])
            assert (refused.value.status, refused.value.code) == (403, "scope_missing")
            listed = admin.keys()[0]
            assert (listed["id"], listed["expires_at"]) == (made["id"], made["expires_at"])
            assert "token" not in listed
            assert admin.revoke_key(made["id"])["revoked_at"]
            with pytest.raises(ApiError) as refused:
                user.jobs()
            assert (refused.value.status, refused.value.code) == (401, "key_revoked")


def test_the_command_line_prints_the_token_alone_so_that_a_program_can_take_it(locked: str) -> None:
    url = ("--url", locked, "--api-key", BOOTSTRAP)
    made = run(*url, "keys", "create", "--name", "nightly", "--scope", "read", "--scope", "write")
    assert made.status == 0, made.err
    token = made.out.strip()
    assert run("--url", locked, "jobs", PAINTBOX_API_KEY=token).status == 0
    assert run("--url", locked, "whoami", PAINTBOX_API_KEY=token).out.endswith(": read, write\n")
    key_id = made.err.split()[0]
    row = next(line for line in run(*url, "keys", "list").out.splitlines() if line.startswith(key_id))
    assert "read, write" in row
    assert row.rstrip().endswith("active")
    assert token not in run(*url, "keys", "list", "--json").out
    assert "revoked" in run(*url, "keys", "revoke", key_id).out
    refused = run("--url", locked, "--api-key", token, "jobs")
    assert refused.status == 1
    assert f"{key_id} was revoked" in refused.err


def test_a_key_that_ends_says_when(locked: str) -> None:
    url = ("--url", locked, "--api-key", BOOTSTRAP)
    options = ("--name", "short", "--scope", "admin", "--expires", "3", "--json")
    made = run(*url, "keys", "create", *options).json
    row = next(line for line in run(*url, "keys", "list").out.splitlines() if line.startswith(made["id"]))
    assert f"active until {made['expires_at']}" in row


@pytest.mark.parametrize("options", [(), ("--name", "x"), ("--name", "x", "--scope", "everything")])
def test_wrong_usage_ends_with_status_2(locked: str, options: tuple[str, ...]) -> None:
    assert run("--url", locked, "keys", "create", *options).status == 2
