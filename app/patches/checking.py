"""What a request for a patch would do: the same checks as when it is started, and estimates, but nothing is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Annotated, Any, Literal

from sqlalchemy.orm import Session

from app.http.dependencies import DatabaseDep, SettingsDep, built
from app.http.errors import BaseNotLoadedError
from app.models.bases import BasesDep
from app.patches.schemas import CheckedDataset, ImagesNeeded, PatchCheck, PatchEstimate
from app.versions.schemas import BaseBrief
from contract.finetune_options import FinetuneOptions
from contract.patch_request import PatchOptions, PatchRequest
from paint_core.evaluation.drops import images_to_certify
from paint_core.models import BaseModel
from paint_core.patching import PatchPlan
from pipeline.plans import plan_patch
from pipeline.workload import count_steps, total_units
from registry.datasets import Datasets
from registry.errors import NotFoundError
from registry.patches import Patches
from registry.tables import PatchRow
from registry.versions import Versions

Role = Literal["task", "supported", "transfer", "anchors"]
NUM_PATCHES = 10
"""Earlier patches that an estimate is based on, at most."""

DEFAULT_FLIP_RATE = 0.04
"""Of answers to supported images, assumed where no patch has been measured."""

FEW_IMAGES = 100
"""Fewer validation images than this are too few to choose alpha reliably."""

_SPLITS: Mapping[Role, tuple[str, ...]] = {
    "task": ("train", "validation", "test"),
    "supported": ("validation", "test"),
    "transfer": ("test",),
    "anchors": ("train",),
}
_WEIGHT_COPIES = 6
"""Of the image tower: weights, gradients, two moments of AdamW, the base's weights and a checkpoint, as float32."""


@dataclass(frozen=True)
class PatchChecker:
    """Checks requests for patches."""

    database: DatabaseDep
    bases: BasesDep
    settings: SettingsDep

    def check(self, request: PatchRequest) -> PatchCheck:
        """Return what a request would do; the errors are those of starting it."""
        with self.database.write() as session:
            row = Patches(session).submit(request, default_base=self.settings.bases[0])
            fingerprint = row.base_fingerprint
            session.rollback()  # it was submitted to be checked only
        base = self.bases.get(fingerprint)
        if base is None and request.activate != "never":
            raise BaseNotLoadedError(fingerprint)
        plan = None if base is None else plan_patch(base, request)
        with self.database.read() as session:
            used = [_describe(session, role, each) for role, each in _roles(request)]
            earlier = Patches(session).newest_finished(fingerprint, NUM_PATCHES)
            flip_rate = _flip_rate(earlier) if request.alpha.rule == "certified" else None
            estimate = None
            if base is not None and plan is not None:
                speeds = [speed for each in earlier if (speed := _speed(session, each, base)) is not None]
                estimate = _estimate(_units(request, used, plan), speeds)
            brief = BaseBrief.from_row(Versions(session).base(fingerprint))
        needed = [] if flip_rate is None else list(_images_needed(request, used, flip_rate))
        return PatchCheck(
            request=_resolve(request, brief.ref, plan),
            base=brief,
            datasets=used,
            num_steps=None if plan is None else count_steps(len(request.tasks), plan),
            estimate=estimate,
            memory_bytes=None if base is None else _memory(base, used),
            flip_rate=flip_rate,
            certification=needed,
            warnings=list(_warn(request, used, needed)),
        )


PatchCheckerDep = Annotated[PatchChecker, built(PatchChecker)]


def _describe(session: Session, role: Role, identifier: str) -> CheckedDataset:
    row = Datasets(session).get(identifier)
    shards = row.shards or {}
    return CheckedDataset(
        id=row.id,
        name=row.name,
        role=role,
        num_classes=None if role == "anchors" else len(row.classnames or ()),
        images={split: int(shards[split]["num_images"]) for split in _SPLITS[role] if shards.get(split)},
    )


def _num(dataset: CheckedDataset, split: str) -> int:
    return dataset.images.get(split, 0)


def _roles(request: PatchOptions) -> Iterator[tuple[Role, str]]:
    yield from (("task", each) for each in request.tasks)
    yield from (("supported", each) for each in request.supported)
    yield from (("transfer", each) for each in request.transfer)
    if request.anchors is not None and request.anchors.dataset is not None:
        yield "anchors", request.anchors.dataset


def _units(request: PatchOptions, used: Sequence[CheckedDataset], plan: PatchPlan) -> float:
    tasks = [each for each in used if each.role != "anchors"]
    images = {split: sum(_num(each, split) for each in tasks) for split in ("train", "validation", "test")}
    anchors = sum(_num(each, "train") for each in used if each.role == "anchors")
    return total_units(images, anchors, len(request.tasks), plan)


def _speed(session: Session, patch: PatchRow, base: BaseModel) -> float | None:
    """Return the units per second of a finished patch; None where its data sets or timings are gone."""
    request = PatchOptions.of_stored(patch.request)
    seconds = sum(((patch.report or {}).get("timings_seconds") or {}).values())
    try:
        used = [_describe(session, role, each) for role, each in _roles(request)]
    except NotFoundError:
        return None
    units = _units(request, used, plan_patch(base, request))
    return units / seconds if seconds > 0 and units > 0 else None


def _estimate(units: float, speeds: Sequence[float]) -> PatchEstimate | None:
    if not speeds:
        return None
    return PatchEstimate(
        seconds=round(units / median(speeds), 1),
        low=round(units / max(speeds), 1),
        high=round(units / min(speeds), 1),
        num_patches=len(speeds),
    )


def _memory(base: BaseModel, used: Sequence[CheckedDataset]) -> int:
    num_weights: int = sum(tensor.numel() for tensor in base.visual.state_dict().values())
    num_images = sum(sum(each.images.values()) for each in used)
    image_bytes: int = 3 * base.image_size**2
    return 4 * _WEIGHT_COPIES * num_weights + num_images * image_bytes


def _flip_rate(earlier: Sequence[PatchRow]) -> float:
    """Return the mean share of supported images on which earlier patches and the base differed."""
    rates = [rate for patch in earlier for rate in _flip_rates(patch.report or {})]
    return round(fmean(rates), 4) if rates else DEFAULT_FLIP_RATE


def _flip_rates(report: Mapping[str, Any]) -> Iterator[float]:
    for task in report.get("tasks") or ():
        patched = (task.get("validation") or {}).get("patched") or {}
        if task.get("role") == "supported" and patched.get("lost") is not None and report.get("alpha"):
            yield (patched["lost"] + patched["gained"]) / patched["total"]


def _images_needed(request: PatchRequest, used: Sequence[CheckedDataset], flip_rate: float) -> Iterator[ImagesNeeded]:
    alpha, supported = request.alpha, [each for each in used if each.role == "supported"]
    confidence = alpha.confidence
    assert confidence is not None  # a certified request has been given one
    confidence = 1 - (1 - confidence) / (request.finetune.tune or 1)

    def needed(dataset: str | None, points: float, num_images: int) -> ImagesNeeded:
        limit = min(points / 100, 1 - 1e-9)
        count = images_to_certify(flip_rate, limit, confidence) if limit > 0 else 10**9
        return ImagesNeeded(
            dataset=dataset,
            max_drop=points,
            num_images=num_images,
            images_needed=count,
            is_enough=num_images >= count,
        )

    if alpha.max_mean_drop is not None:
        yield needed(None, alpha.max_mean_drop, sum(_num(each, "validation") for each in supported))
    for each in supported if alpha.max_supported_drop is not None else ():
        limits = alpha.max_supported_drop
        points = limits[each.id] if isinstance(limits, dict) else limits
        assert points is not None
        yield needed(each.id, points, _num(each, "validation"))


def _warn(request: PatchRequest, used: Sequence[CheckedDataset], needed: Sequence[ImagesNeeded]) -> Iterator[str]:
    if not request.supported:
        yield "No supported task is named, so nothing measures what the patch costs: name data sets under `supported`."
    names = {each.id: each.name for each in used}
    for limit in needed:
        if not limit.is_enough:
            what = "The mean of the supported tasks" if limit.dataset is None else names[limit.dataset]
            yield (
                f"{what} has {limit.num_images} validation images, and about {limit.images_needed} are needed to "
                f"certify a drop of at most {limit.max_drop:g} points: add images, or allow a larger drop."
            )
    for each in used:
        num_validation = _num(each, "validation")
        if each.role == "task" and each.num_classes == 1:
            yield f"{each.name} has one class, so any answer is correct: add images of other classes."
        if each.role in ("task", "supported") and request.folds is None and num_validation < FEW_IMAGES:
            yield f"{each.name} has {num_validation} validation images, too few to choose alpha reliably: add images."
    if request.anchors is None and request.method != "instant":
        yield (
            "No anchors are set: with a pool of other images, or with drawn ones (anchors.drawn), supported tasks lose "
            "far less accuracy."
        )


def _resolve(request: PatchRequest, ref: str, plan: PatchPlan | None) -> dict[str, Any]:
    options = PatchOptions.model_validate(request.model_dump(include=set(PatchOptions.model_fields)))
    resolved = options.model_dump(mode="json")
    resolved["base"] = ref
    if plan is not None and plan.method != "instant":
        names = FinetuneOptions.model_fields.keys() - {"tune"}
        resolved["finetune"] = {name: getattr(plan.finetune, name) for name in names} | {"tune": plan.tune}
        if plan.finetune.trainable != "lora":  # which alone may have a rank
            resolved["finetune"]["lora_rank"] = None
    return resolved
