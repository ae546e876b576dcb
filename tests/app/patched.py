"""Finished patches for tests, with the report that a worker would write: real task vectors, made-up accuracies."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sqlalchemy.orm import Session
from torch import Tensor, nn

from contract.lineage import Lineage
from contract.report import PatchReport
from paint_core.alpha import FeatureCurve
from paint_core.evaluation import probe_features
from paint_core.weights import save_task_vector
from registry.datasets import Datasets
from registry.jobs import Jobs
from registry.patches import Patches
from registry.shards import write_shard
from registry.versions import TermSpec, Versions
from tests.app.world import World, add_ready_dataset, mixed_tower, random_task_vector

SPLITS = ("train", "validation", "test")
TOTAL = 100
ZERO_SHOT_TASK, ZERO_SHOT_SUPPORTED = 10, 90  # correct answers in a hundred

Row = tuple[float, int, int]
"""Of a curve: alpha, correct on the task, correct on the supported task."""

CURVE: tuple[Row, ...] = ((0.0, ZERO_SHOT_TASK, ZERO_SHOT_SUPPORTED), (0.25, 50, 90), (0.5, 90, 86), (1.0, 95, 60))


@dataclass(frozen=True)
class Patched:
    """A finished patch.

    Attributes:
        id: The patch.
        version: The version it made.
        vectors: Hashes of its task vectors.
        task: Data set that it improved on.
        supported: Data set that it was not to harm.
    """

    id: str
    version: int
    vectors: tuple[str, ...]
    task: str
    supported: str


def with_counts(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The curve with what was lost and gained at each point against its first one, as later releases store it."""
    for each in points:
        for name, scores in each["tasks"].items():
            change = scores["correct"] - points[0]["tasks"][name]["correct"]
            scores |= {"lost": max(0, -change), "gained": max(0, change)}
    return points


def score(correct: int) -> dict[str, Any]:
    """A task's result at one alpha."""
    accuracy = correct / TOTAL
    return {"correct": correct, "total": TOTAL, "accuracy": accuracy, "low": 0.0, "high": 1.0, "loss": 1.0, "ece": 0.1}


def point(alpha: float, patching: Mapping[str, int], supported: Mapping[str, int]) -> dict[str, Any]:
    """A point of a curve, out of numbers of correct answers in a hundred."""
    means = [sum(group.values()) / TOTAL / len(group) for group in (patching, supported)]
    return {
        "alpha": alpha,
        "combined": sum(means) / 2,
        "patching": means[0],
        "supported": means[1],
        "measured": True,
        "tasks": {name: score(correct) for name, correct in {**patching, **supported}.items()},
    }


def curve(task: str, supported: str, *rows: Row) -> list[dict[str, Any]]:
    """A curve of rows (alpha, correct on the task, correct on the supported task)."""
    return [point(alpha, {task: first}, {supported: second}) for alpha, first, second in rows]


def add_patch(
    world: World,
    seeds: Sequence[int] = (1,),
    *,
    alpha: float = 0.5,
    body: Mapping[str, Any] | None = None,
    stage: Mapping[str, Any] | None = None,
    curves: Mapping[str, Sequence[Row]] | None = None,
    fixed: Sequence[int] = (),
    counted: bool = False,
) -> Patched:
    """A patch that has succeeded.

    Args:
        world: The running application.
        seeds: Of the task vectors that its last stage moves along, all with weight 1 / their number.
        alpha: What it chose.
        body: Its request, beside tasks and supported.
        stage: Parts of its last stage to add or to replace.
        curves: By profile, rows (alpha, correct on the task, correct on the supported task).
        fixed: Seeds of the task vectors of earlier stages, each with coefficient 0.25.
        counted: Whether the curves count what was lost and gained.

    Returns:
        The patch.
    """
    tasks = [add_ready_dataset(world.services, ["zero", "one"], splits=SPLITS) for _ in (*fixed, *seeds)]
    supported = add_ready_dataset(world.services, ["pizza", "taco"], splits=SPLITS)
    asked = {
        "anchors": None,
        "name": "digits",
        "tasks": tasks,
        "supported": [supported],
        "alpha": {"rule": "combined"},
        **(body or {}),
    }
    if len(tasks) > 1:
        asked = {"method": "parallel", **asked}
    patch = world.client.post("/v1/patches", json=asked).json()["patch"]
    kept = [{"key": f"fixed {seed}", **vars(TermSpec(add_task_vector(world, seed), 0.25))} for seed in fixed]
    moved = [
        {"key": f"task {seed}", "task_vector_sha256": add_task_vector(world, seed), "weight": 1 / len(seeds)}
        for seed in seeds
    ]
    terms = [TermSpec(each["task_vector_sha256"], each["coefficient"]) for each in kept]
    terms += [TermSpec(each["task_vector_sha256"], each["weight"] * alpha) for each in moved]
    last = _stage(tasks[-1], supported, curves or {"flat": CURVE}, alpha)
    if counted:
        last["curves"] = {profile: with_counts(points) for profile, points in last["curves"].items()}
    last |= {"directions": moved, "fixed": kept, **(stage or {})}
    before = [last | {"key": each["key"], "fixed": []} for each in kept]
    zero_shot = {tasks[-1]: None if kept else score(ZERO_SHOT_TASK), supported: score(ZERO_SHOT_SUPPORTED)}
    report = {
        "method": asked.get("method", "single"),
        "alpha": alpha,
        "reason": "best",
        "stages": [*before, last],
        "tasks": [
            {
                "dataset_id": name,
                "name": name,
                "role": "supported" if name == supported else "patching",
                "validation": {"zero_shot": each},
                "test": dict.fromkeys(("zero_shot", "fine_tuned", "patched"), score(0)),
            }
            for name, each in zero_shot.items()
        ],
    }
    version = _finish(world, patch, terms, _tower(world, [*fixed, *seeds], terms), report)
    return Patched(patch["id"], version, tuple(term.task_vector_sha256 for term in terms), tasks[-1], supported)


def add_task_vector(world: World, seed: int) -> str:
    """The hash of a stored and recorded task vector."""
    sha256 = world.services.blobs.put_bytes(save_task_vector(random_task_vector(world.base, seed), {}))
    with world.services.database.write() as session:
        Versions(session).add_task_vector(
            sha256=sha256,
            base_fingerprint=world.base.fingerprint,
            num_bytes=1,
            relative_norm=0.1,
            job_id=f"job_{seed}",
        )
    return sha256


def add_interpolant(world: World, patched: Patched, num_images: int = 40) -> FeatureCurve:
    """An interpolant for a patch's flat path, stored with its report: random features under a head of three classes.

    The validation splits of its tasks then have as many images, named `0.png`, `1.png`, ...
    """
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    names = (patched.task, patched.supported)
    curve = FeatureCurve(
        nodes=(0.0, 0.5, 1.0),
        features={name: draw(3, num_images, 8) for name in names},
        labels={name: torch.arange(num_images) % 3 for name in names},
        heads={name: torch.nn.functional.normalize(draw(3, 8), dim=1) for name in names},
        classnames={name: ("a", "b", "c") for name in names},
        logit_scale=100.0,
    )
    sha256 = world.services.blobs.put_bytes(curve.to_bytes())
    with world.services.database.write() as session:
        row = Patches(session).get(patched.id)
        assert row.report is not None
        row.report = row.report | {"interpolants": {"flat": sha256}}
        for name in names:
            dataset = Datasets(session).get(name)
            shard = {"sha256": _store_split(world, curve.labels[name].tolist()), "num_images": num_images}
            dataset.shards = (dataset.shards or {}) | {"validation": shard}
    return curve


def _store_split(world: World, labels: Sequence[int]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard"
        write_shard(path, [(b"", f"{index}.png", label) for index, label in enumerate(labels)], ("a", "b", "c"))
        return world.services.blobs.put_file(path)


def end_parts(session: Session, job_id: str) -> None:
    """Let the jobs that do a patch's parts have succeeded, if there are any."""
    jobs = Jobs(session)
    for part in jobs.children(job_id):
        lease = jobs.lease(part.id, "a test")
        assert lease is not None
        jobs.succeed(lease)


def _stage(task: str, supported: str, curves: Mapping[str, Sequence[Row]], alpha: float) -> dict[str, Any]:
    return {
        "key": "last",
        "rule": "combined",
        "alpha": alpha,
        "profile": "flat",
        "reason": "best",
        "patching": [task],
        "supported": [supported],
        "curves": {profile: curve(task, supported, *rows) for profile, rows in curves.items()},
        "coefficients": None,
    }


def _finish(
    world: World, patch: dict[str, Any], terms: Sequence[TermSpec], tower: nn.Module, report: dict[str, Any]
) -> int:
    with world.services.database.write() as session:
        end_parts(session, patch["job_id"])
        lease = Jobs(session).lease(patch["job_id"], "a test")
        assert lease is not None
        row = Versions(session).register(
            name="digits",
            base_fingerprint=world.base.fingerprint,
            terms=terms,
            probe=probe_features(tower, world.base).tolist(),
            lineage=Lineage(),
            job_id=patch["job_id"],
            patch_id=patch["id"],
        )
        Patches(session).complete(patch["id"], version_id=row.id, report=PatchReport.of_stored(report))
        Jobs(session).succeed(lease)
        return row.id


def _tower(world: World, seeds: Sequence[int], terms: Sequence[TermSpec]) -> nn.Module:
    sums: dict[str, Any] = {}
    for seed, term in zip(seeds, terms, strict=True):
        for name, tensor in random_task_vector(world.base, seed).items():
            sums[name] = sums.get(name, 0) + term.coefficient * tensor
    return mixed_tower(world.base, sums, 1.0)
