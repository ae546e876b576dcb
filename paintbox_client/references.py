"""From a reference to an id: the id itself, its beginning, a name, a version's number, an alias.

This is the only place that decides. The service's routes take ids; its lists are filtered by `ref`, so that one request
finds the candidates among any number of things.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from paintbox_client.errors import ApiError, InputError
from paintbox_client.records import JsonObject
from paintbox_client.transport import Transport

_MOST_CANDIDATES = 50
_SHOWN_CANDIDATES = 10
_NUMBER = re.compile("[0-9]{1,10}", re.ASCII)


@dataclass(frozen=True)
class Kind:
    """A kind of thing with ids: its noun, the path of its list, the ids' prefix, and the command that lists it."""

    noun: str
    path: str
    prefix: str
    command: str

    @property
    def plural(self) -> str:
        """The noun for several of them."""
        return f"{self.noun}es" if self.noun.endswith("ch") else f"{self.noun}s"


KINDS = {
    "dataset": Kind("data set", "/v1/datasets", "ds_", "paintbox datasets"),
    "patch": Kind("patch", "/v1/patches", "pt_", "paintbox patches"),
    "evaluation": Kind("evaluation", "/v1/evaluations", "ev_", "paintbox evaluations"),
    "job": Kind("job", "/v1/jobs", "job_", "paintbox jobs"),
    "label_set": Kind("label set", "/v1/label-sets", "ls_", "paintbox label-sets list"),
}
_VERSION = Kind("version", "/v1/versions", "", "paintbox versions")


class References:
    """Methods of `Client` that resolve references."""

    _transport: Transport

    def find(self, kind: str, reference: str, *, is_used: bool = False) -> str:
        """Return the id of the thing that a reference means.

        Args:
            kind: `dataset`, `patch`, `evaluation`, `job` or `label_set`.
            reference: An id, the beginning of one with or without `ds_` and the like, or a name or its beginning, if it
                is unique. A patch may also be named by the number of one of its versions, a job by its subject.
            is_used: Whether the thing must be usable: a failed data set is skipped if there is another one.
        """
        described = KINDS[kind]
        if re.fullmatch(f"{described.prefix}[0-9a-f]{{24}}", reference):
            return reference
        if kind == "patch" and _NUMBER.fullmatch(reference):
            return self._patch_of(int(reference))
        items = self._candidates(described, reference)
        if kind == "job":
            items = [each for each in items if not each.get("part")] or items
            if not items:
                return self._job_about(reference)
        if is_used:
            items = [each for each in items if each.get("state") != "failed"] or items
        return str(_choose(described, reference, items)["id"])

    def find_version(self, reference: str | int) -> int:
        """Return the id of the version that a reference means: a number, an alias, or a unique name's beginning."""
        text = str(reference)
        if _NUMBER.fullmatch(text):
            return int(text)
        aliases = {each["name"]: each["version"] for each in self._transport.get("/v1/aliases")["items"]}
        if text in aliases:
            return int(aliases[text])
        return int(_choose(_VERSION, text, self._candidates(_VERSION, text))["id"])

    def suggest(self, kind: str, beginning: str, limit: int = 20) -> list[str]:
        """Return names or, if none begins so, ids, for completion; `alias` and `version` are kinds, too."""
        if kind == "alias":
            return [str(each["name"]) for each in self._transport.get("/v1/aliases")["items"]]
        described = KINDS.get(kind, _VERSION)
        query = {"limit": limit} | ({"ref": beginning} if beginning else {})
        items = self._transport.get(described.path, **query)["items"]
        given = [each.get("name") or "" for each in items]
        names = [name for name in given if given.count(name) == 1 and name.startswith(beginning)]
        return sorted(names) or [str(each["id"]) for each in items]

    def _candidates(self, kind: Kind, reference: str) -> list[JsonObject]:
        if not reference.strip():
            raise InputError(f"The reference to a {kind.noun} is empty.", f"List them with `{kind.command}`.")
        items: list[JsonObject] = self._transport.get(kind.path, ref=reference, limit=_MOST_CANDIDATES)["items"]
        return items

    def _patch_of(self, version_id: int) -> str:
        patch_id = self._transport.get(f"/v1/versions/{version_id}")["patch_id"]
        if patch_id is None:
            raise InputError(
                f"Version {version_id} was not created by a patch.", "List patches with `paintbox patches`."
            )
        return str(patch_id)

    def _job_about(self, reference: str) -> str:
        """Return the job of the patch or data set of this name."""
        for name in ("patch", "dataset"):
            items = self._candidates(KINDS[name], reference)
            if items:
                return str(_choose(KINDS[name], reference, items)["job_id"])
        raise _missing(KINDS["job"], reference)


def _choose(kind: Kind, reference: str, items: Sequence[JsonObject]) -> JsonObject:
    """Return the item with this id, else the only one with this name, else the only one that begins so."""
    by_id = [each for each in items if each["id"] == reference]
    by_name = [each for each in items if each.get("name") == reference]
    for found in (by_id, by_name, items):
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(
                f"{reference!r} is ambiguous: it matches {len(found)}{_or_more(items)} {kind.plural}: {_list(found)}.",
                "Use a longer part of the name or the id.",
            )
    raise _missing(kind, reference)


def _or_more(items: Sequence[JsonObject]) -> str:
    return " or more" if len(items) == _MOST_CANDIDATES else ""


def _list(items: Iterable[JsonObject]) -> str:
    told = [f"{each['id']} ({each['name']})" if each.get("name") else str(each["id"]) for each in items]
    return ", ".join(told[:_SHOWN_CANDIDATES]) + (", …" if len(told) > _SHOWN_CANDIDATES else "")


def _missing(kind: Kind, reference: str) -> ApiError:
    detail = f"No {kind.noun} matches {reference[:200]!r}."
    return ApiError(404, "not_found", detail, f"List them with `{kind.command}`.")
