"""`paintbox improve`: from corrections to a better version in one line."""

from __future__ import annotations

from datetime import date
from typing import Annotated, get_args

import typer

from paintbox_client.client import Client
from paintbox_client.connection import AsJson, open_client
from paintbox_client.display import print_note, print_warning, watch_job
from paintbox_client.errors import InputError
from paintbox_client.options import Activate, parse_settings
from paintbox_client.patch_commands import Settings, SupportedRefs, wait_and_show
from paintbox_client.records import JsonObject
from paintbox_client.resources.feedback import CorrectionsDataset

_USABLE = ("open", "accepted")
_MOST_CORRECTIONS = 10_000


def improve(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Option(help="Name of the data set. Default: corrections and the date.")] = None,
    accepted_only: Annotated[bool, typer.Option("--accepted-only", help="Leave out open corrections.")] = False,
    supported: SupportedRefs = None,
    activate: Annotated[
        str,
        typer.Option(
            metavar="|".join(each.replace("_", "-") for each in get_args(Activate)),
            help="if-certified: activate the version if it is certified and keeps the limits on the test splits, too.",
        ),
    ] = "never",
    setting: Settings = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before starting.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a data set of all corrections, patch the model on it, and show the results.

    Supported tasks, anchors, and the tasks to train on again are those of the patch of the active version; --supported
    adds tasks that must not get worse. Exit status 4: no alpha was acceptable, so the version equals the base.
    """
    chosen = _read_activation(activate)
    states = ["accepted"] if accepted_only else list(_USABLE)
    with open_client(ctx) as client:
        extra = [client.find("dataset", each, is_used=True) for each in supported or ()]
        if chosen != "never" and not (extra or _active_has_supported(client)):
            raise InputError(
                f"--activate {activate} needs supported tasks, and the active version's patch has none.",
                "Name data sets that must not get worse with --supported.",
            )
        if not yes:
            _confirm(client, states)
        made = client.create_dataset_from_feedback(name or f"corrections {date.today().isoformat()}", state=states)
        _wait_for_images(client, made)
        request = _request(made, extra, chosen)
        created = client.create_patch(**parse_settings(request, setting))
        wait_and_show(client, created, as_json)


def _read_activation(text: str) -> str:
    chosen = text.replace("-", "_")
    if chosen not in get_args(Activate):
        raise InputError(f"--activate {text!r} is not known.", "Use never, if-accepted or if-certified.")
    return chosen


def _active_has_supported(client: Client) -> bool:
    patch_id = client.version(client.active().version).patch_id
    return patch_id is not None and bool(client.patch(patch_id).request.supported)


def _confirm(client: Client, states: list[str]) -> None:
    found = client.feedback(_MOST_CORRECTIONS + 1, state=states, labelled=True)
    labels = sorted({str(each.label) for each in found})
    shown = ", ".join(labels[:5]) + (", …" if len(labels) > 5 else "")
    print_note(f"{len(found):,} corrections of {len(labels):,} classes: {shown or '-'}.")
    typer.confirm("Make a data set of them and patch the model?", abort=True, err=True)


def _wait_for_images(client: Client, made: CorrectionsDataset) -> None:
    found = made.dataset
    if found.state != "ready":
        watch_job(client, found.job_id, f"Reading {found.name}")
    done = client.dataset(found.id)
    images = ", ".join(f"{split} {each.num_images:,}" for split, each in done.splits.items())
    print_note(f"Data set {done.id}: {images} images, {done.num_classes:,} classes.")
    if done.num_rejected:
        print_warning(
            f"{done.num_rejected:,} images were left out, because they show the same as test images or were deleted; "
            f"see `paintbox dataset {done.id}`."
        )


def _request(made: CorrectionsDataset, extra: list[str], activate: str) -> JsonObject:
    """Return the suggested patch, with more supported tasks."""
    request = {name: value for name, value in made.patch.to_dict().items() if value is not None}
    request["supported"] = list(dict.fromkeys([*request.get("supported", ()), *extra]))
    request["tasks"] = [each for each in request["tasks"] if each not in extra]
    request["method"] = "single" if len(request["tasks"]) == 1 else request["method"]
    return request | {"activate": activate}
