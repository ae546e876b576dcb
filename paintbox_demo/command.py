"""The demo's command: what it does, step by step."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from paint_core.starter import supported_archives
from paintbox_client.archives import write_archive
from paintbox_client.client import Client
from paintbox_client.commands import Connection
from paintbox_client.discovery import default_data_dir
from paintbox_client.display import watch_job
from paintbox_demo.digits import DISPLAY_NAMES, Scan, archive_members, held_out
from paintbox_demo.frontier import save_frontier
from paintbox_demo.service import connect
from paintbox_demo.summary import build_table, mean_accuracy, tasks_of

_SHOWN_DIGITS = (2, 5, 7)
_TEMPLATES = ("{}", "a {} icon", "an icon of a {}")


def demo(
    ctx: typer.Context,
    url: Annotated[
        str | None, typer.Option(envvar="PAINTBOX_URL", help="A running service; left out: found or started.")
    ] = None,
    api_key: Annotated[str | None, typer.Option(envvar="PAINTBOX_API_KEY", help="Key that the service wants.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where a service that is started keeps its state.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for the plot.")] = Path("demo-output"),
    iterations: Annotated[int | None, typer.Option(min=1, help="Fine-tune for fewer steps, for a quick look.")] = None,
) -> None:
    """Patch the bundled model with real handwritten digits and show what it gained and kept."""
    if isinstance(ctx.obj, Connection):  # the same options may stand before the command
        url, api_key = url or ctx.obj.url, api_key or ctx.obj.api_key
    console = Console(highlight=False, soft_wrap=True)
    started = time.monotonic()
    with connect(url, api_key, data_dir or default_data_dir()) as (client, own):
        console.print(f"Service ready at {client.url}" + (" (started for this demo)" if own else ""))
        _run(client, console, output, iterations)
    console.print(f"Done in {time.monotonic() - started:.0f} s.")
    if own:
        console.print(
            "Keep it running with [bold]paintbox up[/] and classify your own: [bold]paintbox classify --help[/]"
        )


def _run(client: Client, console: Console, output: Path, iterations: int | None) -> None:
    digits, supported = _upload_all(client, console)
    _start_from_base(client, console)
    scans = held_out(_SHOWN_DIGITS)
    before = _classify(client, digits, scans)
    patch = _patch(client, console, digits, supported, iterations)
    report = patch["report"]
    console.print()
    console.print(build_table(report))
    _print_choice(console, report)
    output.mkdir(parents=True, exist_ok=True)
    plot = output / "accuracy-frontier.png"
    save_frontier(report, plot)
    console.print(f"Accuracy frontier: {plot}\n")
    client.activate(report["version_id"], reason="paintbox demo")
    after = _classify(client, digits, scans)
    _print_change(console, scans, before, after)


def _upload_all(client: Client, console: Console) -> tuple[str, list[str]]:
    """Upload the patching task and the supported ones, wait until they are ready, and return their ids."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "digits.zip"
        count = write_archive(archive, archive_members())
        console.print(
            f"Uploading {count:,} scans of handwritten digits and {len(supported_archives())} supported tasks …"
        )
        digits = client.upload_dataset(archive, "handwritten digits", _TEMPLATES, DISPLAY_NAMES)
    others = [client.upload_dataset(path, name, _TEMPLATES) for name, path in supported_archives().items()]
    for dataset in (digits, *others):
        client.wait_for_job(dataset["job"]["id"])
    return digits["id"], [dataset["id"] for dataset in others]


def _start_from_base(client: Client, console: Console) -> None:
    """Let the unpatched base answer first, so that "before" means before."""
    active = client.version(client.active()["version"])
    if not active["terms"]:
        return
    base = next(version for version in reversed(client.versions()) if not version["terms"])
    console.print(f"Version {active['id']} is active; going back to the unpatched version {base['id']} to compare.")
    client.activate(base["id"], reason="paintbox demo: compare with the base")


def _patch(
    client: Client, console: Console, digits: str, supported: list[str], iterations: int | None
) -> dict[str, Any]:
    finetune = {} if iterations is None else {"iterations": iterations}
    created = client.create_patch(name="digits", tasks=[digits], supported=supported, finetune=finetune)
    watch_job(client, created["job"]["id"], "Patching", console)
    return client.patch(created["patch"]["id"])


def _classify(client: Client, dataset: str, scans: list[Scan]) -> dict[str, Any]:
    return client.classify([scan.png for scan in scans], dataset=dataset, top_k=1)


def _print_choice(console: Console, report: dict[str, Any]) -> None:
    seconds = sum(report["timings_seconds"].values())
    console.print(
        f"alpha = {report['alpha']:g}: {report['reason']}. Version {report['version_id']}, made in {seconds:.0f} s."
    )
    supported, patching = tasks_of(report, "supported"), tasks_of(report, "patching")
    gain = 100 * (mean_accuracy(patching, "patched") - mean_accuracy(patching, "zero_shot"))
    kept, plain = (
        100 * (mean_accuracy(supported, column) - mean_accuracy(supported, "zero_shot"))
        for column in ("patched", "fine_tuned")
    )
    console.print(
        f"Digits {gain:+.1f} points; supported tasks {kept:+.1f} points on average, "
        f"where plain fine-tuning costs {plain:+.1f}."
    )


def _print_change(console: Console, scans: list[Scan], before: dict[str, Any], after: dict[str, Any]) -> None:
    console.print(f"Three held-out scans, version {before['version']} → version {after['version']}:")
    for index, scan in enumerate(scans):
        was, now = (answer["results"][index]["predictions"][0] for answer in (before, after))
        mark = "[green]✓[/]" if now["label"] == scan.label else "[red]✗[/]"
        console.print(
            f"  {scan.label:<12} {was['label']} ({was['score']:.2f}) → {now['label']} ({now['score']:.2f}) {mark}"
        )
