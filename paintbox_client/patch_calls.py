"""Methods of the client that check requests for patches, and ask finished patches about other alphas."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from paintbox_client.resources.patches import ChangedImage, Patch, PatchCheck, PatchCurve, PatchStarted
from paintbox_client.transport import Transport

_PAGE_SECONDS = 60.0


class PatchCalls:
    """Methods of `Client` that check requests for patches, and ask finished patches about other alphas."""

    _transport: Transport

    def check_patch(self, **request: Any) -> PatchCheck:
        """Return what a request for a patch would do, without starting it; arguments as for `create_patch`."""
        return PatchCheck(self._transport.send("POST", "/v1/patches/check", json=request, may_repeat=True))

    def extend_patch(self, patch_id: str, tasks: Sequence[str], name: str | None = None) -> PatchStarted:
        """Return a new instant patch, and its job, that continues another one with more data sets."""
        return self._continue(f"/v1/patches/{patch_id}/extend", {"tasks": list(tasks), "name": name})

    def forget_classes(self, patch_id: str, classes: Sequence[str], name: str | None = None) -> PatchStarted:
        """Return a new instant patch, and its job, that continues another one without some classes."""
        return self._continue(f"/v1/patches/{patch_id}/forget", {"classes": list(classes), "name": name})

    def _continue(self, path: str, body: dict[str, Any]) -> PatchStarted:
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        return PatchStarted(
            self._transport.send("POST", path, may_repeat=True, headers=headers, json=_given(body)), self._transport
        )

    def report_page(self, patch_id: str) -> str:
        """Return the report of a finished patch as one HTML file that loads nothing."""
        with self._transport.download(f"/v1/patches/{patch_id}/report.html", _PAGE_SECONDS) as file:
            return file.read().decode("utf-8")

    def patch_curve(self, patch_id: str, alpha: float | None = None, profile: str | None = None) -> PatchCurve:
        """Return the validation scores of every task at an alpha, within milliseconds.

        Args:
            patch_id: The patch.
            alpha: Default: the chosen one.
            profile: How alpha varies with depth, if several were tried; default: the chosen one.
        """
        query = _given({"alpha": alpha, "profile": profile})
        return PatchCurve(self._transport.get(f"/v1/patches/{patch_id}/curve", **query))

    def patch_changes(
        self,
        patch_id: str,
        task: str,
        from_alpha: float = 0.0,
        to_alpha: float | None = None,
        *,
        kind: str | None = None,
        profile: str | None = None,
        limit: int = 100,
    ) -> list[ChangedImage]:
        """Return validation images of a task whose answer differs between two alphas, in the order of the split.

        Args:
            patch_id: The patch.
            task: Id of the data set.
            from_alpha: The alpha before; 0 is the base.
            to_alpha: The alpha after; default: the chosen one.
            kind: `lost` or `won`: only images that lose or win the correct answer; default: every other answer.
            profile: As for `patch_curve`.
            limit: Maximum number of images.
        """
        query = _given({"task": task, "from": from_alpha, "to": to_alpha, "kind": kind, "profile": profile})
        items = self._transport.items(f"/v1/patches/{patch_id}/changes", limit, **query)
        return [ChangedImage(each) for each in items]

    def rename_patch(self, patch_id: str, name: str) -> Patch:
        """Return the patch under another name; its id stays, and so do the names of its versions."""
        return Patch(
            self._transport.send("PATCH", f"/v1/patches/{patch_id}", may_repeat=True, json={"name": name}),
            self._transport,
        )


def _given(query: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}
