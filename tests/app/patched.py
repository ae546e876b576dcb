"""Finished patches for tests, with the report that a worker would write: real task vectors, made-up accuracies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paint_core.probe import probe_features
from paint_core.weights import save_task_vector
from registry.blobs import BlobStore
from registry.jobs import Jobs
from registry.patches import Patches
from registry.versions import TermSpec, Versions
from tests.app.world import World, add_ready_dataset, mixed_tower, random_task_vector

SPLITS = ("train", "validation", "test")
TOTAL = 100


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


def curve(task: str, supported: str, *rows: tuple[float, int, int]) -> list[dict[str, Any]]:
    """A curve of rows (alpha, correct on the task, correct on the supported task)."""
    return [point(alpha, {task: first}, {supported: second}) for alpha, first, second in rows]


def add_patch(
    world: World,
    seeds: Sequence[int] = (1,),
    *,
    alpha: float = 0.5,
    body: Mapping[str, Any] | None = None,
    report: Mapping[str, Any] | None = None,
    curves: Mapping[str, Sequence[tuple[float, int, int]]] | None = None,
    fixed: Sequence[int] = (),
) -> Patched:
    """A patch that has succeeded.

    Args:
        world: The running application.
        seeds: Of the task vectors that its last stage moves along, all with weight 1 / their number.
        alpha: What it chose.
        body: Its request, beside tasks and supported.
        report: Parts of the report to add or to replace.
        curves: By profile, rows (alpha, correct on the task, correct on the supported task).
        fixed: Seeds of the task vectors of earlier stages, each with coefficient 0.25.

    Returns:
        The patch.
    """
    tasks = [add_ready_dataset(world.services, ["zero", "one"], splits=SPLITS) for _ in (*fixed, *seeds)]
    supported = add_ready_dataset(world.services, ["pizza", "taco"], splits=SPLITS)
    asked = {"name": "digits", "tasks": tasks, "supported": [supported], **(body or {})}
    if len(tasks) > 1:
        asked = {"method": "parallel", **asked}
    patch = world.client.post("/v1/patches", json=asked).json()["patch"]
    blobs = world.services.blobs
    kept = [{"key": f"fixed {seed}", **vars(TermSpec(_store(world, blobs, seed), 0.25))} for seed in fixed]
    moved = [
        {"key": f"task {seed}", "task_vector_sha256": _store(world, blobs, seed), "weight": 1 / len(seeds)}
        for seed in seeds
    ]
    terms = [TermSpec(each["task_vector_sha256"], each["coefficient"]) for each in kept]
    terms += [TermSpec(each["task_vector_sha256"], each["weight"] * alpha) for each in moved]
    rows = curves or {"flat": [(0.0, 10, 90), (0.25, 50, 90), (0.5, 90, 86), (1.0, 95, 60)]}
    stage = {
        "key": "last",
        "rule": "combined",
        "alpha": alpha,
        "profile": "flat",
        "reason": "best",
        "patching": [tasks[-1]],
        "supported": [supported],
        "curves": {profile: curve(tasks[-1], supported, *each) for profile, each in rows.items()},
        "directions": moved,
        "fixed": kept,
    }
    whole = {"method": asked.get("method", "single"), "alpha": alpha, "stages": [stage], **(report or {})}
    with world.services.database.write() as session:
        lease = Jobs(session).lease(patch["job_id"], "a test")
        assert lease is not None
        probe = probe_features(_tower(world, [*fixed, *seeds], terms), world.base).tolist()
        row = Versions(session).register(
            name="digits",
            base_fingerprint=world.base.fingerprint,
            terms=terms,
            probe=probe,
            lineage={},
            job_id=patch["job_id"],
            patch_id=patch["id"],
        )
        Patches(session).complete(patch["id"], version_id=row.id, report=whole)
        Jobs(session).succeed(lease)
        vectors = tuple(term.task_vector_sha256 for term in terms)
        return Patched(patch["id"], row.id, vectors, tasks[-1], supported)


def add_task_vector(world: World, seed: int) -> str:
    """The hash of a stored and recorded task vector."""
    return _store(world, world.services.blobs, seed)


def _store(world: World, blobs: BlobStore, seed: int) -> str:
    sha256 = blobs.put_bytes(save_task_vector(random_task_vector(world.base, seed), {}))
    with world.services.database.write() as session:
        Versions(session).add_task_vector(
            sha256=sha256,
            base_fingerprint=world.base.fingerprint,
            num_bytes=1,
            relative_norm=0.1,
            job_id=f"job_{seed}",
        )
    return sha256


def _tower(world: World, seeds: Sequence[int], terms: Sequence[TermSpec]) -> Any:
    sums: dict[str, Any] = {}
    for seed, term in zip(seeds, terms, strict=True):
        for name, tensor in random_task_vector(world.base, seed).items():
            sums[name] = sums.get(name, 0) + term.coefficient * tensor
    return mixed_tower(world.base, sums, 1.0)
