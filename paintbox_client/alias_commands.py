"""Commands of `paintbox` that move aliases: activate, rollback, and the check of a move."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from paintbox_client.client import Client
from paintbox_client.connection import DEFAULT_LIMIT, AsJson, Limit, complete_alias, open_client, take
from paintbox_client.display import print_json, print_note, print_table, print_text, print_warning
from paintbox_client.errors import ClientError, InputError
from paintbox_client.records import JsonObject
from paintbox_client.resources.versions import AliasApproval, AliasCheck, CheckedTask
from paintbox_client.version_commands import VersionRef

Reason = Annotated[str, typer.Option(help="Reason, recorded in the history.")]
ApprovalRef = Annotated[str, typer.Argument(metavar="APPROVAL", help="Id of the request, from `paintbox approvals`.")]
Alias = Annotated[str, typer.Option(autocompletion=complete_alias, help="The alias to move.")]


def activate(
    ctx: typer.Context,
    version_ref: VersionRef,
    reason: Reason = "",
    alias: Alias = "active",
    force: Annotated[
        bool, typer.Option("--force", help="Ignore the limit on the drop of supported tasks; requires --reason.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Serve a version, or move another alias to it."""
    if force and not reason.strip():
        raise InputError("--force needs a reason.", "Give one with --reason; it is recorded in the history.")
    with open_client(ctx) as client:
        moved = client.activate(client.find_version(version_ref), reason, alias, force)
        if isinstance(moved, AliasApproval):
            return _print_approval(moved, as_json)
        change = None if as_json else _find_change(client, moved)
    _print_alias(moved, as_json, change)


def check(
    ctx: typer.Context,
    version_ref: VersionRef,
    alias: Annotated[str, typer.Option(autocompletion=complete_alias, help="The alias that would move.")] = "active",
    as_json: AsJson = False,
) -> None:
    """Check whether a version may be activated, without activating it; exit status 1 if it may not."""
    with open_client(ctx) as client:
        found = client.check(client.find_version(version_ref), alias)
    print_json(found) if as_json else _print_check(found)
    if not found.accepted:
        raise typer.Exit(1)


def rollback(ctx: typer.Context, reason: Reason = "", alias: Alias = "active", as_json: AsJson = False) -> None:
    """Undo the last move of an alias; repeat to undo the moves before it."""
    with open_client(ctx) as client:
        moved = client.roll_back(reason, alias)
    if moved.get("from_version") is None:  # an older service does not tell
        return _print_alias(moved, as_json)
    _print_alias(moved, as_json, f"rolled back from version {moved.from_version}")


def approvals(
    ctx: typer.Context, alias: Alias = "active", limit: Limit = DEFAULT_LIMIT, as_json: AsJson = False
) -> None:
    """List requested moves of an alias, newest first, with the decisions on them."""
    with open_client(ctx) as client:
        items = take(client.approvals(alias, limit + 1), limit)
    if as_json:
        return print_json(items)
    rows = [(each.id, each.version, each.state, each.requested_by, each.decided_by, each.reason) for each in items]
    print_table(("APPROVAL", "VERSION", "STATE", "REQUESTED BY", "DECIDED BY", "REASON"), rows, whole=("APPROVAL",))


def approve(
    ctx: typer.Context, approval: ApprovalRef, reason: Reason = "", alias: Alias = "active", as_json: AsJson = False
) -> None:
    """Approve the move of an alias that another admin requested; it moves at once."""
    with open_client(ctx) as client:
        moved = client.approve(approval, reason, alias)
    _print_alias(moved, as_json)


def reject(
    ctx: typer.Context, approval: ApprovalRef, reason: Reason = "", alias: Alias = "active", as_json: AsJson = False
) -> None:
    """Reject the requested move of an alias, or withdraw an own request."""
    with open_client(ctx) as client:
        found = client.reject(approval, reason, alias)
    print_json(found) if as_json else print_text(f"Approval {found.id} is {found.state}.")


def _print_approval(approval: AliasApproval, as_json: bool) -> None:
    if as_json:
        return print_json(approval)
    print_text(f"Approval {approval.id}: version {approval.version} waits for another admin.")
    option = "" if approval.alias == "active" else f" --alias {approval.alias}"
    print_note(f"They run `paintbox approve {approval.id}{option}` by {approval.expires_at[:16]}.")


def _print_alias(alias: JsonObject, as_json: bool, addition: str | None = None) -> None:
    if as_json:
        return print_json(alias)
    print_text(f"Version {alias['version']} is {alias['name']}{f': {addition}' if addition else ''}.")


def _find_change(client: Client, alias: JsonObject) -> str | None:
    """Return in a few words what was measured of the version that an alias names; None: nothing, or not known."""
    with suppress(ClientError):  # it has been activated all the same
        return _sum_up(client.check(alias["version"], alias["name"]))
    return None


def _sum_up(found: AliasCheck) -> str | None:
    parts = []
    supported = [task for task in found.tasks if task.role == "supported"]
    if supported and found.mean_supported_change_points is not None:
        worst = min(supported, key=lambda task: task.change_points)
        mean = f"supported tasks {found.mean_supported_change_points:+.1f} points on average"
        parts.append(f"{mean} (worst: {worst.name} {worst.change_points:+.1f})")
    if found.mean_patching_change_points is not None:
        parts.append(f"patched tasks {found.mean_patching_change_points:+.1f} points")
    return ", ".join(parts) or None


def _print_check(found: AliasCheck) -> None:
    rows = [_row(task) for task in found.tasks]
    rows += [
        (each.name, "supported", None, None, "not measured", None, _limit(each.limit_points)) for each in found.missing
    ]
    if rows:
        columns = ("TASK", "ROLE", "BEFORE", "AFTER", "CHANGE", "95 %", "LIMIT")
        print_table(columns, rows, whole=("CHANGE",), spare=("95 %", "BEFORE"))
    for reason in found.reasons:
        print_warning(reason.detail)
    if found.missing:
        print_note(f"Measure what is missing with `paintbox evaluate BASE {found.version} --dataset NAME`.")
    now = f"; it names version {found.current_version} now" if found.current_version is not None else ""
    verb = "may" if found.accepted else "may not"
    print_text(f"Alias {found.alias} {verb} move to version {found.version}{now}.")


def _row(task: CheckedTask) -> tuple[object, ...]:
    span = None if task.low_points is None else f"{task.low_points:+.1f} … {task.high_points:+.1f}"
    return (
        task.name,
        task.role,
        f"{task.before:.1%}",
        f"{task.after:.1%}",
        f"{task.change_points:+.1f}",
        span,
        _limit(task.limit_points),
    )


def _limit(points: float | None) -> str | None:
    return None if points is None else f"-{points:g}"
