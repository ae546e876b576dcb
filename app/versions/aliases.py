"""Asking for aliases, and moving them; `active` is guarded."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

from sqlalchemy.exc import IntegrityError

from app.http.dependencies import DatabaseDep, SettingsDep, built
from app.http.errors import NotEvaluatedError, SupportedDropError
from app.models.follower import AliasFollowerDep
from app.models.pool import VersionPoolDep
from app.versions.schemas import Alias, AliasChange, AliasHistory, AliasList, AliasMove
from contract.evaluation import Evaluation
from contract.versions import ACTIVE_ALIAS
from registry.acceptance import supported_drops, too_much
from registry.aliases import Aliases, MoveFacts
from registry.database import Database
from registry.errors import ConflictError, NotFoundError
from registry.versions import Versions


def list_aliases(database: Database) -> AliasList:
    """Return every alias, by name."""
    with database.read() as session:
        return AliasList(items=[Alias.of(row) for row in Aliases(session).all()])


def get_alias(database: Database, name: str) -> tuple[Alias, int]:
    """Return the alias and its revision."""
    with database.read() as session:
        aliases = Aliases(session)
        return Alias.of(aliases.get(name)), aliases.revision(name)


def list_history(database: Database, name: str, limit: int, cursor: str | None) -> AliasHistory:
    """Return a page of the moves of an alias, which may have been deleted, newest first."""
    with database.read() as session:
        aliases = Aliases(session)
        if not aliases.has_been(name):
            raise NotFoundError("alias", name)
        page = aliases.history(name, limit, cursor)
        return AliasHistory(items=[AliasChange.of(row) for row in page], next_cursor=page.next_cursor)


@dataclass(frozen=True)
class AliasMover:
    """Moves aliases; `active` is guarded."""

    database: DatabaseDep
    follower: AliasFollowerDep
    versions: VersionPoolDep
    settings: SettingsDep

    def move(self, name: str, move: AliasMove, expected: Collection[int] | None, actor: str) -> tuple[Alias, int]:
        """Return the alias and its revision; `active` once the version that it names is served.

        Args:
            name: Of an alias, which is created if needed.
            move: Where to, and why.
            expected: Revisions of which the alias must have one; None: any, or no alias.
            actor: Who requests it, for the history.

        Returns:
            The alias, and its revision: the number of its last move.
        """
        if name == ACTIVE_ALIAS and not move.force:
            self._refuse_large_drop(move.version)
        return self._move(name, move, expected, actor)

    def roll_back(self, name: str, reason: str, expected: Collection[int] | None, actor: str) -> tuple[Alias, int]:
        """Return the alias and its revision, moved to the version that it named before; see `Aliases.earlier`.

        A rollback skips the check of supported tasks: the version was served before. The other arguments are those of
        `move`.
        """
        with self.database.read() as session:
            aliases = Aliases(session)
            earlier, revision = aliases.earlier(name), aliases.revision(name)
            aliases.require_revision(name, expected)
        assert earlier.to_version_id is not None
        move = AliasMove(version=earlier.to_version_id, reason=reason or "rollback")
        # The stack of moves must not change while the version is loaded.
        return self._move(name, move, [revision], actor, restores=earlier.id)

    def _move(
        self,
        name: str,
        move: AliasMove,
        expected: Collection[int] | None,
        actor: str,
        restores: int | None = None,
    ) -> tuple[Alias, int]:
        facts: MoveFacts = {
            "actor": actor,
            "reason": move.reason,
            "expected": expected,
            "forced": move.force,
            "restores": restores,
        }
        if name == ACTIVE_ALIAS:
            self.follower.activate(move.version, **facts)
        else:
            self.versions.require_loadable(move.version)
            try:
                with self.database.write() as session:
                    Aliases(session).move(name, move.version, **facts)
            except IntegrityError as error:  # the same alias was created concurrently
                raise ConflictError(
                    f"Alias {name!r} is being created by another request.", "Get the alias, then retry."
                ) from error
        return get_alias(self.database, name)

    def _refuse_large_drop(self, version_id: int) -> None:
        """Refuse a version beyond a limit, or of unknown weights where the installation or a parent sets a limit."""
        with self.database.read() as session:
            versions = Versions(session)
            evaluations = [Evaluation.of_stored(each) for each in versions.evaluations_of(version_id)]
            parents = versions.parents_of([version_id]).get(version_id, [])
            limited = [each for parent in parents for each in versions.evaluations_of(parent)]
            is_unknown = not evaluations and not versions.equals_base(version_id)
        if is_unknown and (
            self.settings.max_supported_drop is not None
            or any(Evaluation.of_stored(each).max_supported_drop is not None for each in limited)
        ):
            raise NotEvaluatedError(version_id)
        for evaluation in evaluations:
            refused = too_much(supported_drops(evaluation, self.settings.max_supported_drop))
            if refused:
                raise SupportedDropError(version_id, refused)


def delete_alias(database: Database, name: str, reason: str, expected: Collection[int] | None, actor: str) -> None:
    """Remove an alias; its history stays. Errors as for `Aliases.delete`."""
    with database.write() as session:
        Aliases(session).delete(name, actor=actor, reason=reason, expected=expected)


AliasMoverDep = Annotated[AliasMover, built(AliasMover)]
