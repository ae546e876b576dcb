"""The bundled data sets, and the command that uploads them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from paint_core.starter import anchors_archive, supported_archives
from paintbox_client.archives import write_archive
from paintbox_client.client import Client
from paintbox_client.connection import AsJson, NoWait, open_client
from paintbox_client.display import print_json, print_table, print_text, watch_job
from paintbox_client.errors import InputError
from paintbox_client.resources.datasets import Dataset
from paintbox_client.tables import print_datasets
from paintbox_demo.digits import DISPLAY_NAMES, archive_members

TEMPLATES = ("{}", "a {} icon", "an icon of a {}")
PHOTO_TEMPLATES = ("{}", "a photo of a {}", "a picture of a {}")
DIGITS, FASHION, ANCHORS = "digits", "fashion", "anchors"
PHOTOGRAPHS = (FASHION, "clothing", "grocery")
"""Data sets whose prompts are those of photographs."""

_FASHION = Path(__file__).resolve().parent / "fashion.zip"


@dataclass(frozen=True)
class Sample:
    """A bundled data set, its name here and in the service, and what it is good for."""

    name: str
    what: str


def list_samples() -> dict[str, Sample]:
    """Return the bundled data sets by name: the task to patch, those to support, the pool of anchors."""
    supported = (
        Sample(name, f"{'photographs' if name in PHOTOGRAPHS else 'pictograms'} of {name}; a supported task")
        for name in supported_archives()
    )
    digits = Sample(DIGITS, "1,797 scans of handwritten digits in 10 classes; a task to patch")
    fashion = Sample(FASHION, "1,900 pictures of clothes in 10 classes, of Fashion-MNIST; a task to patch")
    anchors = Sample(ANCHORS, "1,000 pictograms and 1,000 photographs without labels; a pool of anchors")
    return {each.name: each for each in (digits, fashion, *supported, anchors)}


def upload_sample(client: Client, name: str, title: str | None = None) -> Dataset:
    """Return a bundled data set, which may still be ingested; the same service returns the same one.

    Args:
        client: Of the service.
        name: One of `list_samples`.
        title: Display name in the service; default: `name`.
    """
    with _archive(name) as path:
        if name == ANCHORS:
            return client.upload_dataset(path, title or name, unlabelled=True)
        names = DISPLAY_NAMES if name == DIGITS else None
        templates = PHOTO_TEMPLATES if name in PHOTOGRAPHS else TEMPLATES
        return client.upload_dataset(path, title or name, templates, names)


@contextmanager
def _archive(name: str) -> Iterator[Path]:
    if name != DIGITS:
        bundled = {ANCHORS: anchors_archive(), FASHION: _FASHION, **supported_archives()}
        yield bundled[name]
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{DIGITS}.zip"
        write_archive(path, archive_members())
        yield path


class Action(StrEnum):
    """What to do with the bundled data sets."""

    LIST = "list"
    UPLOAD = "upload"


def samples(
    ctx: typer.Context,
    action: Annotated[Action, typer.Argument(help="List or upload.")] = Action.LIST,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Names of samples. Default: all.")
    ] = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """List or upload the data sets that are included with Paintbox."""
    known = list_samples()
    chosen = names or list(known)
    for name in chosen:
        if name not in known:
            raise InputError(f"Unknown sample {name!r}.", f"Available samples: {', '.join(known)}.")
    if action is Action.LIST:
        return _show([known[name] for name in chosen], as_json=as_json)
    with open_client(ctx) as client:
        found = [upload_sample(client, name) for name in chosen]
        if not no_wait:
            found = [_wait(client, each) for each in found]
    print_json(found) if as_json else print_datasets(found)


def _show(found: Sequence[Sample], *, as_json: bool) -> None:
    if as_json:
        return print_json([{"name": each.name, "what": each.what} for each in found])
    print_table(("SAMPLE", "CONTENTS"), [(each.name, each.what) for each in found])
    print_text("Upload them with: paintbox samples upload [NAME]...")


def _wait(client: Client, dataset: Dataset) -> Dataset:
    if dataset.state != "ready":
        watch_job(client, dataset.job.id, f"Reading {dataset.name}")
    return client.dataset(dataset.id)
