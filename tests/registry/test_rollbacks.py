"""Rollbacks of an alias, against a model: always down, never to a version that was rolled back from unless named."""

from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from registry.aliases import Aliases
from registry.database import Database
from registry.errors import ConflictError
from tests.registry.rows import add_version
from tests.support.databases import open_migrated


class Rollbacks(RuleBasedStateMachine):
    """Moves by number, rollbacks and deletions, in any order."""

    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.name = f"alias-{id(self)}"
        self.stack: list[int] = []
        self.left: set[int] = set()

    @rule(version=st.integers(1, 4))
    def move(self, version: int) -> None:
        with self.database.write() as session:
            Aliases(session).move(self.name, version, actor="a", reason="")
        self.stack.append(version)
        self.left.discard(version)

    @rule()
    def roll_back(self) -> None:
        if not self.stack:
            return
        current = self.stack[-1]
        below = [at for at, version in enumerate(self.stack) if version != current and version not in self.left]
        try:
            with self.database.write() as session:
                aliases = Aliases(session)
                earlier = aliases.earlier(self.name)
                assert earlier.to_version_id is not None
                aliases.move(self.name, earlier.to_version_id, actor="a", reason="", restores=earlier.id)
        except ConflictError:
            assert below == []
            return
        assert earlier.to_version_id == self.stack[below[-1]]
        del self.stack[below[-1] + 1 :]
        self.left.add(current)

    @rule()
    def delete(self) -> None:
        if self.stack:
            with self.database.write() as session:
                Aliases(session).delete(self.name, actor="a", reason="")
            self.stack.clear()

    @invariant()
    def the_alias_names_the_top_of_the_stack(self) -> None:
        with self.database.read() as session:
            row = Aliases(session).find(self.name)
        assert (row.version_id if row else None) == (self.stack[-1] if self.stack else None)


@pytest.mark.timeout(120)
def test_rollbacks_follow_the_model(tmp_path: Path) -> None:
    database = open_migrated(tmp_path / "paintbox.db")
    with database.write() as session:
        for _ in range(4):
            add_version(session)
    machine = type("Machine", (Rollbacks,), {"database": database})
    test = machine.TestCase("runTest")
    test.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
    test.runTest()
    database.close()


def test_going_down_past_a_version_that_was_rolled_back_from_does_not_end_at_it_again(database: Database) -> None:
    with database.write() as session:
        good, bad = add_version(session).id, add_version(session).id
        aliases = Aliases(session)
        for version in (bad, good, bad):
            aliases.move("active", version, actor="a", reason="")
        earlier = aliases.earlier("active")
        assert earlier.to_version_id == good
        aliases.move("active", good, actor="a", reason="", restores=earlier.id)
        with pytest.raises(ConflictError):  # the first move was to the bad version
            aliases.earlier("active")
        aliases.move("active", bad, actor="a", reason="named")
        assert aliases.earlier("active").to_version_id == good
