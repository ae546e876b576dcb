"""Moves of aliases that the guard refuses: logged, counted, and reported to the webhook of the installation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.http.dependencies import provided
from app.http.errors import (
    ActivationFailedError,
    EdgeError,
    NotEvaluatedError,
    SupportedDropError,
    VersionNotLoadedError,
)
from contract.versions import LOADED_ALIASES
from registry.aliases import Aliases
from registry.database import Database
from registry.deliveries import Deliveries

_REFUSALS = (SupportedDropError, NotEvaluatedError, ActivationFailedError, VersionNotLoadedError)
_log = structlog.get_logger(__name__)


class AliasRefusals:
    """Reports refused moves.

    Args:
        database: Holds the messages.
        webhook_url: Where messages are sent; None: nowhere.
        count: Called with the alias, `other` if it is none of those that serve requests, and the error code.
    """

    def __init__(self, database: Database, webhook_url: str | None, count: Callable[[str, str], object]) -> None:
        self._database = database
        self._webhook_url = webhook_url
        self._count = count

    @contextmanager
    def reported(self, alias: str, version_id: int, actor: str) -> Iterator[None]:
        """Report a refusal that the block raises; it propagates.

        Yields:
            None: The block moves the alias.
        """
        try:
            yield
        except _REFUSALS as error:
            self._report(alias, version_id, actor, error)
            raise

    def _report(self, alias: str, version_id: int, actor: str, error: EdgeError) -> None:
        _log.warning("alias move refused", alias=alias, version=version_id, code=error.code, detail=error.detail)
        self._count(alias if alias in LOADED_ALIASES else "other", error.code)
        if self._webhook_url is None:
            return
        try:
            with self._database.write() as session:
                row = Aliases(session).find(alias)
                data = {
                    "alias": alias,
                    "version": version_id,
                    "current_version": row.version_id if row else None,
                    "actor": actor,
                    "code": error.code,
                    "detail": error.detail,
                }
                Deliveries(session).tell(self._webhook_url, "alias.refused", data)
        except SQLAlchemyError as failure:  # the refusal itself is the answer that matters
            _log.warning("refusal not sent", alias=alias, error=type(failure).__name__)


AliasRefusalsDep = Annotated[AliasRefusals, provided(AliasRefusals)]
