"""How close the service comes to the model itself, beside what else one could serve it with; and swaps under load.

Side by side in one run: the bound (decode, preprocess, forward and scores in one process with all cores, batch 32, no
HTTP), Paintbox, a plain FastAPI app, LitServe and BentoML, with the same open_clip model and the same photographs.
Servers and client share all the cores that this process may use; `--cores` makes them fewer. All servers are loaded;
while one is measured the others are held still.

    python benchmarks/serving.py [--quick] [--json FILE] [--photos FOLDER] [--only PART]
        [--peers NAME ...] [--rounds N] [--cores N]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import _towers
import torch
from _report import Figure, parser, report
from _serving.bodies import find_photos
from _serving.client import CHECKOUT, Plan, run
from _serving.lineup import PEERS, Model, open_lineup
from _serving.rounds import PAINTBOX, Lengths, Measurements, measure, table
from _serving.servers import paintbox, serve
from _serving.swaps import Swapped, expected_cosines, megabytes_per_100_swaps, swap
from _serving.versions import COEFFICIENTS, Service, register_task_vector

from paint_core.models import load_base

PARTS = ("starter", "vitb32", "swaps", "start", "gpu")
_SWAP_LABELS = ("animal", "food", "building", "vehicle", "person", "plant")
_OPEN_SHARE = 0.7
_SWAP_ROUNDS, _SWAPS_A_ROUND = 10, 100
_COLD_STARTS = 3
_SWAP_SECONDS = 1.0
"""From one swap to the next: under load a version is built in about half of that, in pieces."""


@dataclass(frozen=True)
class Run:
    """What this run is to do.

    Attributes:
        is_quick: Whether rough figures will do.
        photos: Folder of photographs; None: the default.
        peers: Which peers.
        scratch: Folder for data and logs.
        rounds: Turns of the starter and of ViT-B/32.
        processes: Of ours that serve the starter on one port.
    """

    is_quick: bool
    photos: str | None
    peers: Sequence[str]
    scratch: Path
    rounds: int
    processes: int


def serve_starter(options: Run) -> list[Figure]:
    """Measure the starter, whose forward is so small that everything else shows."""
    lengths = Lengths(1, 4.0, 3.0, 6.0) if options.is_quick else Lengths(options.rounds, 5.0, 3.0, 15.0)
    found = _measure("starter", lengths, options)
    bound = found.bound_per_second
    labels = found.per_second(PAINTBOX, "c32, 1000 labels") / found.per_second(PAINTBOX, "c32")
    stored = found.per_second(PAINTBOX, "c32, 1000 stored") / found.per_second(PAINTBOX, "c32")
    many = found.per_second(PAINTBOX, "c32, 16 images")
    return [
        Figure("starter_fraction_of_bound_c32_single", found.per_second(PAINTBOX, "c32") / bound, "x", 0.8),
        Figure("starter_fraction_of_bound_c32_16", many / bound, "x", 0.95),
        *_over_best_peer("starter", found, 2.0, 1.2),
        Figure("added_latency_ms_c1", _added_latency(found), "ms", 2.0, at_most=True),
        Figure("labels_1000_over_10", labels, "x", 0.95),
        Figure("labels_1000_stored_over_10", stored, "x", 0.95),
    ]


def serve_vitb32(options: Run) -> list[Figure]:
    """Measure ViT-B/32, whose forward is most of the work."""
    lengths = Lengths(1, 10.0, 6.0, 10.0) if options.is_quick else Lengths(options.rounds, 16.0, 6.0, 16.0)
    found = _measure("vitb32", lengths, options)
    fraction = found.per_second(PAINTBOX, "c32") / found.bound_per_second
    return [
        Figure("vitb32_fraction_of_bound_c32", fraction, "x", 0.95),
        *_over_best_peer("vitb32", found, 2.0, 1.2),
        Figure("vitb32_added_latency_ms_c1", _added_latency(found), "ms", 3.0, at_most=True),
    ]


def swap_versions(options: Run) -> list[Figure]:
    """Swap two versions of the starter in turn under open-loop load."""
    base, data = load_base("starter"), options.scratch / "data-swaps"
    photos, _ = find_photos(Path(options.photos) if options.photos else None, CHECKOUT)
    command = paintbox(data, "starter", num_processes=options.processes)
    command = replace(command, variables={**command.variables, "PAINTBOX_VERSION_CACHE_BYTES": "0"})  # each is built
    rounds = []
    with serve(command, options.scratch / "swaps.log") as server, Service(server.port) as service:
        sha256 = register_task_vector(data, base)
        one, other = (service.compose(sha256, coefficient) for coefficient in COEFFICIENTS)
        expected = expected_cosines(service, (one, other), photos, _SWAP_LABELS)
        fields = {"candidate_labels": json.dumps(_SWAP_LABELS)}
        plan = Plan(server.port, command.path, fields=fields, photos=options.photos, expected=expected)
        for _ in range(1 if options.is_quick else _SWAP_ROUNDS):
            # Measured anew each time: what was 70 % of the capacity is more than all once the machine is slower.
            capacity = run(replace(plan, concurrency=32, seconds=6.0)).images_per_second
            loaded = replace(plan, rate=_OPEN_SHARE * capacity)
            each = f"one every {_SWAP_SECONDS:.1f} s, under {loaded.rate:.0f} requests/s (70 % of capacity)"
            print(f"{_SWAPS_A_ROUND} swaps, {each}", flush=True)
            rounds.append(swap(server, service, loaded, (one, other), _SWAPS_A_ROUND, _SWAP_SECONDS))
            _tell_swaps(rounds[-1])
    return [
        Figure("swaps_failed", sum(swapped.num_failed for swapped in rounds), "", 0, at_most=True),
        Figure("swaps_mixed", sum(swapped.num_mixed for swapped in rounds), "", 0, at_most=True),
        Figure(
            "swap_p99_over_steady",
            statistics.median(swapped.p99_over_steady for swapped in rounds),
            "x",
            1.25,
            at_most=True,
        ),
        Figure("rss_mb_per_100_swaps", megabytes_per_100_swaps(rounds), "MB", 1.0, at_most=True),
    ]


def start_cold(options: Run) -> list[Figure]:
    """Start the API with the starter on an empty data directory until it is ready."""
    seconds, imports = [], []
    for index in range(1 if options.is_quick else _COLD_STARTS):
        with serve(
            paintbox(options.scratch / f"data-start-{index}", "starter"), options.scratch / "start.log"
        ) as server:
            seconds.append(server.started_in)
        imports.append(_seconds_of_import())
    middle, of_import = statistics.median(seconds), statistics.median(imports)
    print(f"cold starts {', '.join(f'{value:.2f}' for value in seconds)} s, of which importing torch and open_clip")
    print(f"alone takes {of_import:.2f} s in a process of its own")
    return [Figure("cold_start_seconds", middle, "s", 6.0, at_most=True)]


def forward_on_gpu(options: Run) -> list[Figure]:
    """Compare the engine with the bare captured forward; nothing without a GPU."""
    if not torch.cuda.is_available():
        print("no GPU is at hand: gpu_fraction_of_raw is left out")
        return []
    from _serving.gpu import measure as measure_gpu

    photos, _ = find_photos(Path(options.photos) if options.photos else None, CHECKOUT)
    fractions = []
    for name in _towers.RANDOM:
        base = load_base(f"local-dir:{_towers.folder(name)}", device="cuda")
        found = measure_gpu(base, photos, 2.0 if options.is_quick else 8.0, 1 if options.is_quick else 3)
        fractions.append(found.decoded / found.raw)
        speeds = f"raw {found.raw:.0f}, engine {found.decoded:.0f}, from JPEG {found.jpeg:.0f} images/s"
        print(f"{name}: {speeds}; captured and warm in {found.swap_seconds:.2f} s", flush=True)
    return [Figure("gpu_fraction_of_raw", min(fractions), "x", 0.9)]


def _measure(name: str, lengths: Lengths, options: Run) -> Measurements:
    folder = _towers.folder(name)
    if name == "starter":
        model = Model(name, "starter", folder, options.processes)
    else:
        model = Model(name, f"local-dir:{folder}", folder)
    print(f"\n{name}: starting the servers", flush=True)
    with open_lineup(model, options.scratch, options.photos, options.peers) as lineup:
        found = measure(lineup, lengths, is_starter=name == "starter")
    print(*table(found), sep="\n", flush=True)
    return found


def _over_best_peer(name: str, found: Measurements, target: float, target_lower: float) -> list[Figure]:
    """Compare with the best peer as it installs, and with the best of all, those in a lower precision among them."""
    figures = []
    for ending, lower, least in (("fp32", False, target), ("lower", True, target_lower)):
        best = found.best_peer("c32", lower=lower)
        if best is None:
            continue
        ours, theirs = (found.latency_ms(server, "c32", 0.99) for server in (PAINTBOX, best))
        verdict = "no worse" if ours <= theirs else "WORSE"
        print(f"  best peer: {best}; p99 at concurrency 32 {ours:.1f} ms against its {theirs:.1f} ms: {verdict}")
        ratio = found.per_second(PAINTBOX, "c32") / found.per_second(best, "c32")
        figures.append(Figure(f"{name}_over_best_peer_{ending}", ratio, "x", least))
    return figures


def _added_latency(found: Measurements) -> float:
    """Median latency of one client over what one image takes in the bound when nothing else is to do."""
    return found.latency_ms(PAINTBOX, "c1", 0.5) - found.bound_image_ms


def _tell_swaps(found: Swapped) -> None:
    middle, longest = statistics.median(found.seconds), max(found.seconds)
    print(f"a swap took {1000 * middle:.0f} ms (median; longest {1000 * longest:.0f}); refused: {found.statuses}")
    clients = {"before": found.steady[0], "during": found.swapping, "after": found.steady[1]}
    for when, client in clients.items():
        told = f"p50 {client.p50:7.1f} ms  p99 {client.p99:7.1f} ms  sent late by {client.late_ms:.1f} ms (p99)"
        print(f"  {when:6} {len(client.latencies_ms):7} answers  {told}  {client.verdicts}  failed {client.failed}")
    first, last = found.resident[0] / 1e6, found.resident[-1] / 1e6
    print(f"  resident memory {first:.0f} MB after the first swap, {last:.0f} MB after the last", flush=True)


def _seconds_of_import() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, open_clip"], check=True)
    return time.perf_counter() - started


def _parse() -> argparse.Namespace:
    arguments = parser(__doc__)
    arguments.add_argument("--photos", type=Path, metavar="FOLDER", help="photographs to send")
    arguments.add_argument("--only", choices=PARTS, action="append", help="measure this part alone; may be repeated")
    arguments.add_argument("--peers", nargs="*", choices=tuple(PEERS), default=tuple(PEERS), help="compare with these")
    arguments.add_argument("--rounds", type=int, default=3, help="turns of which medians are taken (default 3)")
    arguments.add_argument("--processes", type=int, default=1, help="of ours, that serve the starter (default 1)")
    arguments.add_argument("--cores", type=int, help="use the first so many of the cores that this process may use")
    return arguments.parse_args()


def main() -> None:
    """Measure and print."""
    options = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped, too
    cores = sorted(os.sched_getaffinity(0))[: options.cores]
    os.sched_setaffinity(0, cores)  # inherited by the client and by every server
    _, source = find_photos(options.photos, CHECKOUT)
    print(f"{source}; client and servers share the cores {cores}", flush=True)
    parts: Mapping[str, Callable[[Run], list[Figure]]] = {
        "starter": serve_starter,
        "vitb32": serve_vitb32,
        "swaps": swap_versions,
        "start": start_cold,
        "gpu": forward_on_gpu,
    }
    photos = str(options.photos.resolve()) if options.photos else None
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as scratch:
        chosen = Run(options.quick, photos, options.peers, Path(scratch), options.rounds, options.processes)
        for part in options.only or PARTS:
            figures += parts[part](chosen)
    report(figures, options.json)


if __name__ == "__main__":
    main()
