"""Label sets: named by what they hold, added once, removed for good."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.database import Database
from registry.errors import NotFoundError, RequestRefusedError
from registry.label_sets import LabelSets, label_set_id
from tests.registry.clock import Clock


def test_the_id_tells_labels_templates_and_order_apart() -> None:
    contents = [(["a", "b"], []), (["b", "a"], []), (["a"], ["b"]), (["a", "b"], ["{}"]), (["ab"], []), (["é"], [])]
    assert len({label_set_id(*content) for content in contents}) == len(contents)
    assert label_set_id(["a", "b"], ("{}",)) == label_set_id(("a", "b"), ["{}"])


def test_the_same_content_is_added_once_and_keeps_name_and_owner(database: Database) -> None:
    with database.write() as session:
        row, is_new = LabelSets(session).add(["cat", "dog"], ["a {}"], "pets", "me")
        assert is_new
        identifier = row.id
    with database.write() as session:
        row, is_new = LabelSets(session).add(["cat", "dog"], ["a {}"], "animals", "you")
        assert (row.id, is_new, row.name, row.owner) == (identifier, False, "pets", "me")
    with database.read() as session:
        row = LabelSets(session).get(identifier)
        assert (row.labels, row.num_labels, row.templates) == (["cat", "dog"], 2, ["a {}"])


def test_who_adds_the_same_at_once_gets_the_same_and_one_of_them_makes_it(database: Database) -> None:
    def add(name: str) -> tuple[str, bool]:
        with database.write() as session:
            row, is_new = LabelSets(session).add(["cat"], [], name)
            return row.id, is_new

    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(add, map(str, range(8))))
    assert len({identifier for identifier, _ in added}) == 1
    assert [is_new for _, is_new in added].count(True) == 1


def test_a_removed_one_is_missing_and_can_be_added_again(database: Database) -> None:
    with database.write() as session:
        sets = LabelSets(session)
        identifier = sets.add(["cat"], [])[0].id
        sets.remove(identifier)
        session.expire_all()
        for act in (sets.get, sets.remove):
            with pytest.raises(NotFoundError, match="no label set"):
                act(identifier)
    with database.write() as session:
        assert LabelSets(session).add(["cat"], [])[1]


def test_label_sets_are_listed_newest_first_in_pages(database: Database, clock: Clock) -> None:
    made = []
    for label in "abcde":
        with database.write() as session:
            made.append(LabelSets(session, clock).add([label], [])[0].id)
        clock.advance(1)
    with database.read() as session:
        sets = LabelSets(session)
        first = sets.newest(3)
        second = sets.newest(3, first.next_cursor)
        with pytest.raises(RequestRefusedError):
            sets.newest(3, "nonsense")
        assert [row.id for row in (*first, *second)] == made[::-1]
        assert [row.num_labels for row in first] == [1, 1, 1]
    assert second.next_cursor is None
