"""The part of the Python client that is about the events of the whole installation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from paintbox_client.resources.jobs import InstallationEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paintbox_client.records import JsonObject
    from paintbox_client.transport import Transport

_LARGEST_PAGE = 200
_POLL_SECONDS = 2.0


class EventMethods:
    """Methods of `Client` that tell what happens in the installation."""

    _transport: Transport

    def events(self, after: str | None = None, limit: int = 100) -> list[InstallationEvent]:
        """Return what happened: jobs that were queued, started or ended, and moves of aliases, oldest first.

        Args:
            after: `id` of an event: only what followed it. None: the newest events.
            limit: Maximum number of events, up to 200.
        """
        page = self._event_page(after, limit)
        while not page["items"] and after not in (None, page["next_after"]):  # only progress, which is not told
            after = page["next_after"]
            page = self._event_page(after, limit)
        return [InstallationEvent(each) for each in page["items"]]

    def follow_events(self, after: str | None = None) -> Iterator[InstallationEvent]:
        """Yield events after `after` (None: from now on) as they happen, without end."""
        if after is None:
            after = str(self._event_page(None, 1)["next_after"])
        while True:
            page = self._event_page(after, _LARGEST_PAGE)
            yield from (InstallationEvent(each) for each in page["items"])
            if page["next_after"] == after:
                time.sleep(_POLL_SECONDS)
            after = page["next_after"]

    def _event_page(self, after: str | None, limit: int) -> JsonObject:
        query = {"limit": limit} if after is None else {"limit": limit, "after": after}
        page: JsonObject = self._transport.get("/v1/events", **query)
        return page
