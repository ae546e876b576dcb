"""Every route against other spellings of what its path names: whoever may not use the thing may not use it so either.

The requests go over a socket, byte for byte, to a real server.
"""

import json
from collections.abc import Callable, Iterator
from http.client import HTTPConnection

import pytest

from contract.access import Scope
from tests.app.test_authorisation import BODIES, OTHER, OWNER, ROUTES, Route, ids, keyed, tokens
from tests.app.world import World, serve

__all__ = ["ids", "keyed", "tokens"]
CHANGES = {
    **BODIES,
    "PATCH /v1/versions/{version_id}": {"name": "stolen"},
    "POST /v1/patches/{patch_id}/reselect": {"alpha": 0.25},
}
FULL_WIDTH, ARABIC = (str.maketrans("0123456789", digits) for digits in ("０１２３４５６７８９", "٠١٢٣٤٥٦٧٨٩"))


def _encoded(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


SAME: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "percent-encoded": _encoded,
    "percent-encoded in lower case": lambda text: _encoded(text).lower(),
}
DIFFERENT: dict[str, Callable[[str], str]] = {
    "decimal": "{}.0".format,
    "decimal point": "{}.".format,
    "plus": "+{}".format,
    "encoded plus": "%2b{}".format,
    "minus": "-{}".format,
    "exponent": "{}e0".format,
    "hexadecimal": "0x{}".format,
    "octal": "0o{}".format,
    "zeros": "00000{}".format,
    "more zeros than digits": ("0" * 12 + "{}").format,
    "underscore": "{}_0".format,
    "underscored zero": "0_{}".format,
    "space before": "%20{}".format,
    "space after": "{}%20".format,
    "line feed before": "%0a{}".format,
    "line feed after": "{}%0a".format,
    "carriage return": "{}%0d".format,
    "tab": "%09{}".format,
    "vertical tab": "%0b{}".format,
    "file separator": "{}%1c".format,
    "nul": "{}%00".format,
    "no-break space": "%c2%a0{}".format,
    "next line": "{}%c2%85".format,
    "byte order mark": "%ef%bb%bf{}".format,
    "zero-width space": "%e2%80%8b{}".format,
    "full-width digits": lambda text: _encoded(text.translate(FULL_WIDTH) + "\uff3f"),
    "Arabic digits": lambda text: _encoded(text.translate(ARABIC) + "\u0660"),
    "superscript": "{}%c2%b2".format,
    "overlong encoding": "%c0%b3{}".format,
    "invalid UTF-8": "{}%ff".format,
    "encoded twice": lambda text: _encoded(text).replace("%", "%25"),
    "half an escape": "{}%".format,
    "wrong escape": "{}%zz".format,
    "quotes": "%22{}%22".format,
    "brackets": "[{}]".format,
    "comma": "{0},{0}".format,
    "matrix parameter": "{};a=1".format,
    "encoded question mark": "{}%3f".format,
    "encoded hash": "{}%23".format,
    "encoded slash": "{}%2f".format,
    "encoded backslash": "{}%5c".format,
    "slash before": "/{}".format,
    "dot segment": "./{}".format,
    "encoded dot segment": "%2e/{}".format,
    "parent": "x/../{}".format,
    "encoded parent": "x/%2e%2e/{}".format,
    "upper case": lambda text: text.upper() + "A",
    "larger by 2 to the 32": lambda text: str(2**32 + int(text)) if text.isdecimal() else f"{text}x",
    "larger by 2 to the 64": lambda text: str(2**64 + int(text)) if text.isdecimal() else f"{text}y",
    "very long": lambda text: "0" * 5000 + text,
    "true": lambda text: "true",
    "percent sign": "%25{}".format,
    "wildcard": "{}%25".format,
    "one character wildcard": lambda text: text[:-1] + "_",
}
NAMES = {
    "dataset_id",
    "feedback_id",
    "patch_id",
    "evaluation_id",
    "job_id",
    "version_id",
    "label_set_id",
    "alias",
    "key_id",
    "upload_id",
}
NAMING = [route for route in ROUTES if any(f"{{{name}}}" in route.path for name in NAMES)]
OWNED = [route for route in NAMING if route.owned]


@pytest.fixture(scope="module")
def address(keyed: World) -> Iterator[str]:
    with serve(keyed) as url:
        yield url.removeprefix("http://")


def ask(address: str, route: Route, path: str, token: str) -> int:
    """The status that a request is answered; its path is sent as it is."""
    connection = HTTPConnection(address, timeout=30)
    body = CHANGES.get(str(route))
    headers = {"Authorization": f"Bearer {token}"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        connection.request(route.method, path, body=None if body is None else json.dumps(body), headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def spell(route: Route, ids: dict[str, str], how: Callable[[str], str]) -> str:
    return route.url({name: how(value) if name in NAMES else value for name, value in ids.items()})


def look(keyed: World, ids: dict[str, str], token: str) -> list[object]:
    """What an admin sees of everything that is owned."""
    headers = {"authorization": f"Bearer {token}"}
    paths = (
        *("versions/{version_id}", "jobs/{job_id}", "label-sets/{label_set_id}", "patches/{patch_id}"),
        "datasets/{dataset_id}",
    )
    return [keyed.client.get(f"/v1/{path}".format(**ids), headers=headers).json() for path in paths]


@pytest.mark.parametrize("route", OWNED, ids=str)
def test_nobody_elses_thing_is_changed_by_another_spelling_of_its_name(
    keyed: World, tokens: dict[tuple[Scope, str], str], ids: dict[str, str], address: str, route: Route
) -> None:
    before = look(keyed, ids, tokens[Scope.ADMIN, OWNER])
    for name, how in SAME.items():
        assert ask(address, route, spell(route, ids, how), tokens[Scope.WRITE, OTHER]) == 403, name
    for name, how in DIFFERENT.items():
        status = ask(address, route, spell(route, ids, how), tokens[Scope.WRITE, OTHER])
        assert status in (307, 400, 403, 404, 405, 422), f"{name}: {status}"
    assert look(keyed, ids, tokens[Scope.ADMIN, OWNER]) == before


@pytest.mark.parametrize("route", OWNED, ids=str)
def test_another_spelling_names_nothing_for_its_owner_and_for_admins_either(
    keyed: World, tokens: dict[tuple[Scope, str], str], ids: dict[str, str], address: str, route: Route
) -> None:
    before = look(keyed, ids, tokens[Scope.ADMIN, OWNER])
    for scope, owner in ((Scope.WRITE, OWNER), (Scope.ADMIN, OTHER)):
        for name, how in DIFFERENT.items():
            status = ask(address, route, spell(route, ids, how), tokens[scope, owner])
            assert status in (307, 400, 404, 405, 422), f"{name}: {status}"
    assert look(keyed, ids, tokens[Scope.ADMIN, OWNER]) == before


@pytest.mark.parametrize("route", NAMING, ids=str)
def test_another_spelling_is_no_way_around_a_scope(
    tokens: dict[tuple[Scope, str], str], ids: dict[str, str], address: str, route: Route
) -> None:
    lacking = Scope.CLASSIFY if route.scope is Scope.READ else Scope.READ
    if route.scope is Scope.CLASSIFY:
        lacking = Scope.WRITE
    for name, how in {**SAME, **DIFFERENT}.items():
        status = ask(address, route, spell(route, ids, how), tokens[lacking, OWNER])
        assert status in (307, 400, 403, 404, 405), f"{name}: {status}"
