"""What learns in a fine-tuning run: all of the tower, its last blocks, or low-rank updates."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from paint_core.config.finetune import FinetuneConfig
from paint_core.data import LabelledImages
from paint_core.errors import ConfigError, WeightsMismatchError
from paint_core.models import BaseModel, build_head, prompts
from paint_core.training.finetuning import StepReport, finetune
from paint_core.training.freezing import last_blocks
from paint_core.training.low_rank import add_adapters, merged_weights
from paint_core.training.tower import TrainableTower, memory_format_of, require_trainable
from paint_core.training.train_state import TrainState
from paint_core.weights import Term, mix, task_vector
from tests.paint_core import tiny, towers
from tests.support.forking import Forks

CONFIG = FinetuneConfig(iterations=4, batch_size=8, learning_rate=1e-3, warmup_steps=1)
LORA = dataclasses.replace(CONFIG, trainable="lora", lora_rank=2)
LAST = dataclasses.replace(CONFIG, trainable="last_k", last_k=1)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return towers.random_base(tmp_path_factory.mktemp("vit"), towers.VIT)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return towers.random_base(tmp_path_factory.mktemp("resnet"), towers.RESNET)


@pytest.fixture(scope="module")
def images(vit: BaseModel) -> LabelledImages:
    return tiny.coloured(vit, 24)


@pytest.fixture(scope="module")
def head(vit: BaseModel) -> Tensor:
    return build_head(vit, tiny.COLOURS, prompts.PLAIN)


def update(base: BaseModel, theta_1: dict[str, Tensor]) -> dict[str, Tensor]:
    return task_vector(base.visual.state_dict(), theta_1)


@pytest.mark.parametrize("config", [CONFIG, LORA, LAST], ids=["all", "lora", "last_k"])
def test_the_task_vector_leads_back_to_the_fine_tuned_weights_bit_for_bit(
    vit: BaseModel, images: LabelledImages, head: Tensor, config: FinetuneConfig
) -> None:
    theta_1 = finetune(vit, head, images, config)
    theta_0 = vit.visual.state_dict()
    assert theta_1.keys() == theta_0.keys()
    mixed = mix(theta_0, [Term(update(vit, theta_1), 1.0)])
    assert all(torch.equal(mixed[name], theta_1[name]) for name in theta_1)


@pytest.mark.parametrize("config", [LORA, LAST], ids=["lora", "last_k"])
def test_a_run_that_trains_a_part_resumes_bit_for_bit(
    vit: BaseModel, images: LabelledImages, head: Tensor, config: FinetuneConfig
) -> None:
    checkpoints: list[TrainState] = []
    whole = finetune(vit, head, images, config, checkpoint_every=2, on_checkpoint=checkpoints.append)
    resumed = finetune(vit, head, images, config, state=TrainState.from_bytes(checkpoints[0].to_bytes()))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_blocks_before_the_last_ones_have_a_task_vector_of_exact_zeros(
    vit: BaseModel, images: LabelledImages, head: Tensor
) -> None:
    tau = update(vit, finetune(vit, head, images, LAST))
    moved = {name for name, tensor in tau.items() if bool((tensor != 0).any())}
    assert moved == {name for name in tau if name.startswith(("transformer.resblocks.2.", "ln_post", "proj"))}


def test_the_last_block_of_the_starter_is_its_last_convnext_block(starter_base: BaseModel) -> None:
    names = [name for name, _ in starter_base.visual.named_parameters()]
    learning = last_blocks(names, 1)
    assert all(name.startswith(("trunk.stages.3.blocks.1.", "trunk.head.", "head.")) for name in learning)
    assert "head.proj.weight" in learning
    assert last_blocks(names, 2) > learning


def test_more_last_blocks_than_there_are_and_towers_of_unknown_order_are_refused(
    vit: BaseModel, resnet: BaseModel
) -> None:
    with pytest.raises(ConfigError, match="3 blocks"):
        last_blocks(vit.visual.state_dict(), 4)
    with pytest.raises(ConfigError, match="ViT or a ConvNeXt"):
        last_blocks([name for name, _ in resnet.visual.named_parameters()], 1)


def test_low_rank_updates_have_the_rank_asked_for_and_reach_attention(
    vit: BaseModel, images: LabelledImages, head: Tensor
) -> None:
    tau = update(vit, finetune(vit, head, images, LORA))
    moved = {name: tensor for name, tensor in tau.items() if bool((tensor != 0).any())}
    kinds = ("attn.in_proj_weight", "attn.out_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
    assert moved.keys() == {f"transformer.resblocks.{block}.{kind}" for block in range(3) for kind in kinds}
    for name, tensor in moved.items():
        singular = torch.linalg.svdvals(tensor.double())
        assert singular[1] > 0, name
        assert singular[2] < 1e-4 * singular[0], name  # zero but for the rounding of the merged weights


def test_low_rank_updates_reach_the_pointwise_layers_of_a_convnext(starter_base: BaseModel) -> None:
    images, config = tiny.coloured(starter_base, 8), dataclasses.replace(LORA, iterations=2, batch_size=4)
    head = build_head(starter_base, tiny.COLOURS, prompts.PLAIN)
    tau = update(starter_base, finetune(starter_base, head, images, config))
    moved = {name for name, tensor in tau.items() if bool((tensor != 0).any())}
    assert "trunk.stages.0.blocks.0.mlp.fc1.weight" in moved
    assert "head.proj.weight" in moved
    assert not any("conv_dw" in name or "norm" in name for name in moved)


def test_attention_with_adapters_that_have_learnt_nothing_computes_what_it_did(vit: BaseModel) -> None:
    tower = TrainableTower(vit.visual, None, LORA, torch.device("cpu"))
    pixels = torch.randn(3, 3, 32, 32)
    assert torch.allclose(tower.visual(pixels), vit.visual(pixels), atol=1e-5)
    theta = tower.weights()
    assert all(torch.equal(theta[name], tensor) for name, tensor in vit.visual.state_dict().items())


def test_merged_adapters_compute_what_separate_ones_did(vit: BaseModel) -> None:
    tower = TrainableTower(vit.visual, None, LORA, torch.device("cpu"))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in tower.learning():
            parameter.add_(0.1 * torch.randn_like(parameter))
    plain = TrainableTower(vit.visual, merged_weights(tower.visual, tower.theta_start), CONFIG, torch.device("cpu"))
    pixels = torch.randn(3, 3, 32, 32)
    expected = vit.visual(pixels)
    assert torch.allclose(plain.visual(pixels), tower.visual(pixels), atol=1e-4)
    assert not torch.allclose(plain.visual(pixels), expected, atol=1e-2)


def test_lora_alpha_scales_the_update(vit: BaseModel, images: LabelledImages, head: Tensor) -> None:
    losses = []
    for alpha in (None, 2.0, 16.0):
        reports: list[StepReport] = []
        finetune(vit, head, images, dataclasses.replace(LORA, lora_alpha=alpha), on_step=reports.append)
        losses.append(reports[-1].loss)
    assert losses[0] == losses[1] != losses[2]


def test_without_peft_the_error_names_the_extra(vit: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)  # what an import finds where it is not installed
    with pytest.raises(ConfigError, match=r"paintbox\[lora\]"):
        TrainableTower(vit.visual, None, LORA, torch.device("cpu"))


def test_a_tower_without_a_layer_for_adapters_is_refused() -> None:
    with pytest.raises(ConfigError, match="no layer"):
        add_adapters(nn.Sequential(nn.LayerNorm(4)), rank=2, alpha=2.0, seed=0)


def test_a_resnet_gets_adapters_where_its_own_forward_uses_them(resnet: BaseModel) -> None:
    images, head = tiny.coloured(resnet, 8), build_head(resnet, tiny.COLOURS, prompts.PLAIN)
    tau = update(resnet, finetune(resnet, head, images, dataclasses.replace(LORA, batch_size=4)))
    moved = {name for name, tensor in tau.items() if bool((tensor != 0).any())}
    assert "layer1.0.conv1.weight" in moved
    assert not any(name.startswith("attnpool") for name in moved)


def test_batch_norm_keeps_its_statistics_and_learns_its_scales(resnet: BaseModel) -> None:
    images, head = tiny.coloured(resnet, 8), build_head(resnet, tiny.COLOURS, prompts.PLAIN)
    tau = update(resnet, finetune(resnet, head, images, dataclasses.replace(CONFIG, batch_size=4)))
    assert not any(bool(tensor.any()) for name, tensor in tau.items() if "running" in name)
    assert bool(tau["bn1.weight"].any())


def test_a_start_is_where_training_begins_and_a_strange_one_is_refused(
    vit: BaseModel, images: LabelledImages, head: Tensor
) -> None:
    start = finetune(vit, head, images, CONFIG)
    tau = task_vector(start, finetune(vit, head, images, LAST, start=start))
    assert {name.split(".")[0] for name, t in tau.items() if bool(t.any())} == {"transformer", "ln_post", "proj"}
    assert not any(bool(t.any()) for name, t in tau.items() if name.startswith("transformer.resblocks.0"))
    with pytest.raises(WeightsMismatchError, match="initial weights"):
        finetune(vit, head, images, CONFIG, start={"other": torch.zeros(1)})


def test_a_state_of_a_run_that_trained_something_else_is_refused(
    vit: BaseModel, images: LabelledImages, head: Tensor
) -> None:
    checkpoints: list[TrainState] = []
    finetune(vit, head, images, CONFIG, checkpoint_every=2, on_checkpoint=checkpoints.append)
    with pytest.raises(WeightsMismatchError, match="another model"):
        finetune(vit, head, images, LORA, state=checkpoints[0])


def test_presets_follow_the_family(vit: BaseModel, resnet: BaseModel, starter_base: BaseModel) -> None:
    assert vit.finetune_defaults == FinetuneConfig(precision="auto")
    assert resnet.finetune_defaults == FinetuneConfig()
    assert starter_base.finetune_defaults.iterations == 200


def test_a_preset_of_a_large_tower_takes_two_micro_batches(vit: BaseModel, tmp_path: Path) -> None:
    wide = nn.Module()
    wide.visual = nn.Linear(20_000, 10_000, bias=False, device="meta")
    assert dataclasses.replace(vit, model=wide).finetune_defaults.accumulation_steps == 2


def test_a_table_of_sines_as_positions_is_not_trained(tmp_path: Path) -> None:
    vision = {**towers.VIT, "pos_embed_type": "sin_cos_2d", "pool_type": "avg", "no_ln_pre": True}
    base = towers.random_base(tmp_path / "sines", vision)
    head = build_head(base, tiny.COLOURS, prompts.PLAIN)
    for config in (CONFIG, dataclasses.replace(CONFIG, trainable="last_k", last_k=3)):
        tau = update(base, finetune(base, head, tiny.coloured(base, 8), config))
        assert not tau["positional_embedding"].any()
        assert tau["proj"].any()


def test_a_fastvit_is_fine_tuned_without_ending_the_process(forks: Forks, tmp_path: Path) -> None:
    status, _, errors = forks.run("-m", "tests.paint_core.models.fastvit_run", str(tmp_path / "fastvit"))
    assert status == 0, errors[-2000:]


@pytest.mark.parametrize(
    ("layer", "is_safe"),
    [
        (nn.Conv2d(3, 64, 1, stride=2), False),
        (nn.Conv2d(12, 64, 1, stride=2), False),
        (nn.Conv2d(15, 64, 1, stride=2), False),
        (nn.Conv2d(16, 64, 1, stride=2), True),
        (nn.Conv2d(3, 8, (1, 1), stride=(2, 1)), False),
        (nn.Conv2d(32, 32, 1, stride=2, groups=8), False),
        (nn.Conv2d(64, 64, 1, stride=2), True),
        (nn.Conv2d(3, 64, 1), True),
        (nn.Conv2d(3, 64, 3, stride=2), True),
        (nn.Conv2d(3, 64, 16, stride=16), True),
    ],
)
def test_channels_last_is_used_on_a_cpu_only_where_its_gradients_stay_in_their_memory(
    layer: nn.Module, is_safe: bool
) -> None:
    tower = nn.Sequential(nn.Identity(), layer)
    expected = torch.channels_last if is_safe else torch.contiguous_format
    assert memory_format_of(tower, torch.device("cpu")) is expected
    assert memory_format_of(tower, torch.device("cuda")) is torch.channels_last


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        LORA,
        LAST,
        dataclasses.replace(LAST, last_k=99),
        dataclasses.replace(CONFIG, gradient_checkpointing=True),
        dataclasses.replace(LORA, gradient_checkpointing=True),
    ],
    ids=["all", "lora", "last_k", "too many blocks", "recomputed", "lora, recomputed"],
)
def test_what_is_refused_before_training_is_what_training_refuses_and_the_tower_stays_as_it_is(
    vit: BaseModel, resnet: BaseModel, config: FinetuneConfig
) -> None:
    for base in (vit, resnet):
        modules = str(base.visual)
        refusals = []
        for attempt in (
            require_trainable,
            lambda visual, each: TrainableTower(visual, None, each, torch.device("cpu")),
        ):
            try:
                attempt(base.visual, config)
                refusals.append("")
            except ConfigError as error:
                refusals.append(str(error))
        assert refusals[0] == refusals[1]
        assert str(base.visual) == modules


def test_a_resnet_whose_forward_ignores_the_switch_is_refused_recomputation(resnet: BaseModel) -> None:
    with pytest.raises(ConfigError, match="cannot recompute"):
        require_trainable(resnet.visual, dataclasses.replace(CONFIG, gradient_checkpointing=True))
