"""The plan of a request for a base, and what a base refuses: the words of API and trainer."""

from pathlib import Path
from typing import Any

import pytest

from contract.patch_request import PatchOptions
from paint_core.alpha import AlphaOptions
from paint_core.config.finetune import FinetuneConfig
from paint_core.errors import ConfigError, ProfileError
from paint_core.models import BaseModel
from pipeline.plans import plan_patch
from tests.paint_core import towers


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return towers.random_base(tmp_path_factory.mktemp("vit"), towers.VIT)


def request(**options: Any) -> PatchOptions:
    return PatchOptions.model_validate({"name": "a patch", "tasks": ["ds_1"], **options})


def test_what_a_request_leaves_out_comes_from_the_base(vit: BaseModel) -> None:
    plan = plan_patch(vit, request())
    assert plan.finetune == vit.finetune_defaults
    assert (plan.method, plan.alpha.rule, plan.alpha.path) == ("single", "combined", "flat")
    assert plan.alpha.strategy == "interpolated"


def test_the_default_limits_of_a_request_are_those_of_the_library(vit: BaseModel) -> None:
    assert plan_patch(vit, request(supported=["ds_2"])).alpha == AlphaOptions("certified", strategy="interpolated")


@pytest.mark.parametrize(("iterations", "warmup_steps"), [(1, 0), (50, 5), (4000, 400)])
def test_a_run_of_another_length_keeps_its_share_of_warm_up(vit: BaseModel, iterations: int, warmup_steps: int) -> None:
    assert vit.finetune_defaults.warmup_steps / vit.finetune_defaults.iterations == 0.1
    config = plan_patch(vit, request(finetune={"iterations": iterations})).finetune
    assert (config.iterations, config.warmup_steps) == (iterations, warmup_steps)


def test_anchors_become_settings_of_fine_tuning(vit: BaseModel) -> None:
    plan = plan_patch(vit, request(anchors={"dataset": "ds_2", "weight": 20}))
    assert plan.finetune.anchor_weight == 20
    assert plan.finetune.anchor_batch_size == FinetuneConfig.anchor_batch_size


def test_a_merge_that_rescales_is_searched_beyond_one(vit: BaseModel) -> None:
    tasks = ["ds_1", "ds_2"]
    assert plan_patch(vit, request(tasks=tasks, method="parallel", merge="ties")).alpha.max_flat_alpha == 3
    assert plan_patch(vit, request(tasks=tasks, method="parallel")).alpha.max_flat_alpha == 1


def test_what_the_tower_cannot_do_is_refused(vit: BaseModel, tmp_path: Path) -> None:
    resnet = towers.random_base(tmp_path, towers.RESNET)
    with pytest.raises(ConfigError, match="cannot recompute its activations"):
        plan_patch(resnet, request(finetune={"gradient_checkpointing": True}))
    with pytest.raises(ConfigError, match="the image tower has 3 blocks"):
        plan_patch(vit, request(finetune={"trainable": "last_k", "last_k": 4}))
    with pytest.raises(ProfileError):
        plan_patch(resnet, request(alpha={"path": "best"}))
