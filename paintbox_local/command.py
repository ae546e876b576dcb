"""The command `paintbox local patch`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from contract.patch_request import PatchRequest
from paint_core.errors import PaintCoreError
from paint_core.starter import supported_archives
from paintbox_client.cli_errors import EXIT_UNCHANGED
from paintbox_client.connection import AsJson
from paintbox_client.display import print_json, print_text, print_warning
from paintbox_client.errors import InputError
from paintbox_client.options import parse_settings
from paintbox_client.reports import is_unchanged, print_report
from paintbox_client.resources.reports import PatchReport
from paintbox_local.installation import Installation, open_installation
from paintbox_local.results import MODEL, write_results
from pipeline.logs import configure_logging
from registry.errors import RegistryError


class Action(StrEnum):
    """What to do without a service."""

    PATCH = "patch"


class LocalMethod(StrEnum):
    """How to patch."""

    SINGLE = "single"
    INSTANT = "instant"
    AUTO = "auto"


def local(
    action: Annotated[Action, typer.Argument(help="What to do.")],
    folder: Annotated[Path, typer.Argument(help="Folder or archive of images to improve on, by class.")],
    protect: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Task that must not get worse: food, nature, objects or travel, which are included, or a folder; "
            "repeatable.",
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("paintbox-patch"),
    method: Annotated[
        LocalMethod, typer.Option(help="single fine-tunes; instant needs seconds; auto keeps the better.")
    ] = LocalMethod.SINGLE,
    base: Annotated[str, typer.Option(help="Base model.")] = "starter",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    template: Annotated[
        list[str] | None, typer.Option(help="Prompt template with {} for the class; repeatable. Default: the base's.")
    ] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Optimizer steps. Default: preset of the base.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other field of a patch, such as alpha.rule=combined."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Patch a model with a folder of images on this machine, without a service.

    Exit status 4: no alpha was acceptable, so the model equals the base.
    """
    assert action is Action.PATCH  # the only one
    configure_logging("warning")
    if not folder.exists():
        raise InputError(f"No such file or folder: {str(folder)[:200]!r}.", "Choose a folder with images.")
    protected = [_find_protected(each) for each in protect or ()]
    _make(output)
    try:
        with open_installation(output, base, device) as installation:
            fields = {"method": method.value, "finetune": {} if iterations is None else {"iterations": iterations}}
            request = _request(installation, folder, protected, tuple(template or ()), fields, setting or ())
            done = write_results(installation, installation.patch(request), output)
    except (PaintCoreError, RegistryError) as error:
        detail, _, advice = str(error).partition(": ")
        raise InputError(getattr(error, "detail", detail), getattr(error, "advice", advice)) from error
    _tell(done, as_json)


def _request(
    installation: Installation,
    folder: Path,
    protected: Sequence[Path],
    templates: tuple[str, ...],
    fields: dict[str, Any],
    settings: Sequence[str],
) -> PatchRequest:
    """Return the request that the service would get, once its data sets are ready."""
    task = installation.add_dataset(folder, templates)
    supported = [installation.add_dataset(each) for each in protected]
    asked = {"name": f"patch of {folder.resolve().name}"[:200], "tasks": [task], "supported": supported}
    try:
        return PatchRequest.model_validate(parse_settings(asked | fields, settings))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        told = f"{where}: {first['msg']}" if where else str(first["msg"])
        raise InputError(f"{told.removeprefix('Value error, ')}.", "Correct the options.") from error


def _find_protected(name: str) -> Path:
    """Return the archive of an included task, or the folder of another one."""
    included = supported_archives()
    found = included.get(name) or Path(name)
    if not found.exists():
        raise InputError(
            f"There is no task or folder {name[:200]!r} to protect.", f"Use {', '.join(included)}, or a folder."
        )
    return found


def _make(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error}.", "Choose another folder.") from error


def _tell(done: dict[str, Any], as_json: bool) -> None:
    report = PatchReport(done["report"])
    if as_json:
        print_json(done)
    else:
        print_report(done, next_steps=False)
        for file in done["files"]:
            print_text(file)
        if not any(Path(file).name == MODEL for file in done["files"]):
            print_warning(
                "There is no model folder: the patch has a head term, which other packages cannot load. Use --method "
                "single for a folder that open_clip loads, or a service to serve the head term."
            )
    if is_unchanged(report):
        raise typer.Exit(EXIT_UNCHANGED)
