"""The part of the Python client that is about API keys. They are an admin's business."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paintbox_client.resources.system import Key, NewKey, Session
from paintbox_client.transport import Transport

_LARGEST_PAGE = 1000


class KeyMethods:
    """Methods of `Client` that create, list and revoke API keys."""

    _transport: Transport

    def create_key(self, name: str, scopes: Sequence[str], expires_in_days: int | None = None) -> NewKey:
        """Return a new key, with its `token`, which is shown only now.

        Args:
            name: Owner; what the key creates belongs to this name.
            scopes: Of `read`, `classify`, `write` and `admin`, which includes the others.
            expires_in_days: Days until it expires; None: never.
        """
        body: dict[str, Any] = {"name": name, "scopes": list(scopes)}
        if expires_in_days is not None:
            body["expires_in_days"] = expires_in_days
        return NewKey(self._transport.send("POST", "/v1/keys", json=body))

    def keys(self) -> list[Key]:
        """Return the newest thousand keys, newest first, without tokens, including revoked and expired ones."""
        return [Key(each) for each in self._transport.get("/v1/keys", limit=_LARGEST_PAGE)["items"]]

    def session(self) -> Session:
        """Return whose key this client sends, and its scopes."""
        return Session(self._transport.get("/v1/session"))

    def revoke_key(self, key_id: str) -> Key:
        """Return the key, which opens nothing from now on."""
        return Key(self._transport.send("DELETE", f"/v1/keys/{key_id}"))
