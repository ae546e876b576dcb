"""Label sets over HTTP: stored once, named by id, kept in memory, gone soon after they are removed."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import SQLAlchemyError
from starlette.testclient import TestClient

from app.labels.stored import RECHECK_SECONDS, Labels, LabelSource, StoredLabels
from registry.database import Database
from registry.errors import NotFoundError
from registry.label_sets import LabelSets
from tests.app.asking import POSTS, post_json
from tests.app.test_leaving import wait_for
from tests.app.world import World, add_ready_dataset, check_problem
from tests.builders import digit_pngs

IMAGE = digit_pngs(0)[0]
LABELS = ["digit zero", "digit eight", "a {} in braces", "pizza"]


def store(client: TestClient, labels: list[str], **rest: Any) -> str:
    made = client.post("/v1/label-sets", json={"labels": labels, **rest})
    assert made.status_code in (200, 201), made.text
    return str(made.json()["id"])


@contextmanager
def watching(database: Database) -> Iterator[list[str]]:
    """The statements about label sets and data sets that are executed meanwhile."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "label_sets" in statement or "datasets" in statement:
            seen.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield seen
    event.remove(database.engine, "before_cursor_execute", note)


def test_the_same_content_is_stored_once_and_found_again(client: TestClient) -> None:
    body = {"name": "digits", "labels": [" zero ", "one"], "templates": ["a {}"]}
    made = client.post("/v1/label-sets", json=body)
    assert made.status_code == 201
    told = made.json()
    assert told["labels"] == ["zero", "one"]
    assert (told["name"], told["num_labels"], told["templates"]) == ("digits", 2, ["a {}"])
    assert made.headers["location"] == f"/v1/label-sets/{told['id']}"
    again = client.post("/v1/label-sets", json=body | {"name": "another name"})
    assert (again.status_code, again.json()) == (200, told)
    assert client.get(made.headers["location"]).json() == told
    (listed,) = [each for each in client.get("/v1/label-sets").json()["items"] if each["id"] == told["id"]]
    assert listed == {key: value for key, value in told.items() if key != "labels"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_request"),
        ({"labels": []}, "invalid_request"),
        ({"labels": ["a", " "]}, "invalid_request"),
        ({"labels": ["a", "a "]}, "duplicate_label"),
        ({"labels": ["a"], "templates": ["no placeholder"]}, "invalid_request"),
        ({"labels": ["a"], "typo": 1}, "invalid_request"),
        ({"labels": [str(number) for number in range(5001)]}, "too_many_labels"),
        ({"labels": [str(number) for number in range(500)], "templates": [f"{n} {{}}" for n in range(41)]}, None),
    ],
)
def test_what_no_request_could_use_is_not_stored(client: TestClient, body: Any, code: str | None) -> None:
    check_problem(client.post("/v1/label-sets", json=body), 422, code or "too_many_labels")


def test_a_stored_set_is_answered_like_its_labels_in_every_form(client: TestClient) -> None:
    templates = ["a drawing of a {}", "{}"]
    plain, prompted = store(client, LABELS), store(client, LABELS, templates=templates)
    for post in POSTS:
        for identifier, options in ((plain, {}), (prompted, {"templates": templates})):
            named = post(client, "/v1/classify", [IMAGE], label_set=identifier).json()
            sent = post(client, "/v1/classify", [IMAGE], candidate_labels=LABELS, **options).json()
            assert named["results"] == sent["results"]
            assert named["templates"] == sent["templates"]
    other = post_json(client, "/v1/classify", [IMAGE], label_set=prompted, hypothesis_template="the {}").json()
    assert other["templates"] == ["the {}"]


def test_the_head_is_built_when_the_set_is_stored(world: World) -> None:
    heads = world.services.engine.heads
    wait_for(lambda: heads.is_idle)
    before = len(heads)
    identifier = store(world.client, ["a set that nobody asked for yet"])
    assert len(heads) == before + 1
    assert post_json(world.client, "/v1/classify", [IMAGE], label_set=identifier).status_code == 200
    assert len(heads) == before + 1


def test_requests_that_name_a_set_do_not_ask_the_database(world: World) -> None:
    names = [
        {"label_set": store(world.client, ["kept in", "memory"])},
        {"dataset": add_ready_dataset(world.services, ["kept too", "in memory"])},
    ]
    for name in names:
        with watching(world.services.database) as statements:
            for _ in range(5):
                assert post_json(world.client, "/v1/classify", [IMAGE], **name).status_code == 200
        assert len(statements) == 1, statements


def test_a_removed_set_is_refused_at_once_where_it_was_removed(client: TestClient) -> None:
    identifier = store(client, ["to be", "removed"])
    assert post_json(client, "/v1/classify", [IMAGE], label_set=identifier).status_code == 200
    assert client.delete(f"/v1/label-sets/{identifier}").status_code == 204
    check_problem(post_json(client, "/v1/classify", [IMAGE], label_set=identifier), 404, "not_found")
    for method in ("GET", "DELETE"):
        check_problem(client.request(method, f"/v1/label-sets/{identifier}"), 404, "not_found")
    assert store(client, ["to be", "removed"]) == identifier
    assert post_json(client, "/v1/classify", [IMAGE], label_set=identifier).status_code == 200


def test_a_set_of_another_kind_is_missing(world: World) -> None:
    dataset, label_set = add_ready_dataset(world.services, ["a"]), store(world.client, ["a"])
    check_problem(post_json(world.client, "/v1/classify", [IMAGE], label_set=dataset), 404, "not_found")
    check_problem(post_json(world.client, "/v1/classify", [IMAGE], dataset=label_set), 404, "not_found")


class Clock:
    """Seconds that pass when a test says so."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def add(database: Database, *labels: str) -> str:
    with database.write() as session:
        return LabelSets(session).add(labels, [])[0].id


def test_a_set_that_another_process_removed_is_used_for_ten_seconds_more(world: World, clock: Clock) -> None:
    database = world.services.database
    stored = StoredLabels(database, clock=clock)
    identifier = add(database, "removed", "elsewhere")

    async def get() -> Labels:
        return await stored.get(LabelSource.LABEL_SET, identifier)

    assert asyncio.run(get()).classnames == ("removed", "elsewhere")
    with database.write() as session:
        LabelSets(session).remove(identifier)
    clock.seconds = RECHECK_SECONDS - 0.1
    assert asyncio.run(get()).classnames == ("removed", "elsewhere")
    clock.seconds = RECHECK_SECONDS
    for _ in range(2):
        with pytest.raises(NotFoundError):
            asyncio.run(get())
    assert len(stored) == 0


def test_of_many_requests_one_looks_again_while_the_others_go_on(world: World, clock: Clock) -> None:
    stored = StoredLabels(world.services.database, clock=clock)
    identifier = add(world.services.database, "looked", "at again")

    async def get_many() -> set[Labels]:
        return set(await asyncio.gather(*(stored.get(LabelSource.LABEL_SET, identifier) for _ in range(8))))

    asyncio.run(get_many())
    clock.seconds = RECHECK_SECONDS
    with watching(world.services.database) as statements:
        assert len(asyncio.run(get_many())) == 1
    assert len(statements) == 1


def test_the_least_recently_used_set_goes_first(world: World) -> None:
    stored = StoredLabels(world.services.database, max_cached=2)
    first, second, third = (add(world.services.database, label) for label in ("first", "second", "third"))

    async def get(*identifiers: str) -> None:
        for identifier in identifiers:
            await stored.get(LabelSource.LABEL_SET, identifier)

    asyncio.run(get(first, second, first, third))
    with watching(world.services.database) as statements:
        asyncio.run(get(first, third))
        assert statements == []
        asyncio.run(get(second))
    assert len(statements) == 1
    assert len(stored) == 2


def test_a_set_that_is_kept_outlives_the_database(tmp_path: Any, clock: Clock) -> None:
    database = Database(f"sqlite:///{tmp_path / 'paintbox.db'}")
    database.migrate()
    stored, identifier, other = StoredLabels(database, clock=clock), add(database, "kept"), add(database, "not kept")

    async def get(name: str) -> Labels:
        return await stored.get(LabelSource.LABEL_SET, name)

    asyncio.run(get(identifier))
    with database.write() as session:
        session.execute(text("DROP TABLE label_sets"))
    clock.seconds = RECHECK_SECONDS
    assert asyncio.run(get(identifier)).classnames == ("kept",)
    with pytest.raises(SQLAlchemyError):
        asyncio.run(get(other))
    database.close()
