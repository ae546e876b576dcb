"""First guesses at the library: each works, or is refused by an error of ours that says what to pass."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F

from paint_core.alpha import AlphaOptions, evaluate_curve, search_alpha
from paint_core.alpha import Path as WeightPath
from paint_core.config.finetune import FinetuneConfig
from paint_core.data import LabelledImages, Task
from paint_core.errors import ArgumentError, ConfigError, DatasetError, HeadError, PaintCoreError
from paint_core.evaluation import encode, evaluate
from paint_core.models import BaseModel, build_head, load_base
from paint_core.patching import PatchPlan, run_patch
from paint_core.runtime.arguments import require_device
from paint_core.training.finetuning import finetune
from paint_core.weights import Term, mix, mix_into, mixed_copy, task_vector
from tests.paint_core import tiny
from tests.paint_core.patches import COARSE

CONFIG = FinetuneConfig(iterations=2, batch_size=4)


@pytest.fixture(scope="module")
def task(tiny_base: BaseModel) -> Task:
    return tiny.colour_task(tiny_base, "colours", seed=1)


@pytest.fixture(scope="module")
def theta(tiny_base: BaseModel) -> dict[str, torch.Tensor]:
    return dict(tiny_base.visual.state_dict())


@pytest.fixture(scope="module")
def tau(theta: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: 0.01 * torch.ones_like(tensor) for name, tensor in theta.items()}


Guess = Callable[[BaseModel, Task, dict[str, torch.Tensor], dict[str, torch.Tensor]], Any]
GUESSES: dict[str, tuple[Guess, type[PaintCoreError], str]] = {
    "a number as a reference": (lambda b, t, w, v: load_base(5), ArgumentError, "ref is an int"),  # type: ignore[arg-type]
    "a model as theta_0": (lambda b, t, w, v: task_vector(b, w), ArgumentError, r"base\.visual\.state_dict"),  # type: ignore[arg-type]
    "a tower as theta_0": (lambda b, t, w, v: task_vector(b.visual, w), ArgumentError, r"state_dict\(\)"),  # type: ignore[arg-type]
    "weights as a tower": (lambda b, t, w, v: evaluate(w, b, t.head, t.test), ArgumentError, "visual is a dict"),  # type: ignore[arg-type]
    "a model as a tower": (lambda b, t, w, v: evaluate(b, b, t.head, t.test), ArgumentError, "visual is a BaseModel"),  # type: ignore[arg-type]
    "a pair as a term": (lambda b, t, w, v: mix(w, [(v, 0.5)]), ArgumentError, "Term\\(task_vector, coefficient\\)"),  # type: ignore[list-item]
    "a lone term": (lambda b, t, w, v: mix(w, Term(v, 0.5)), ArgumentError, "list of terms"),  # type: ignore[arg-type]
    "a number as a task vector": (lambda b, t, w, v: Term(0.5, v), ArgumentError, "task_vector is a float"),  # type: ignore[arg-type]
    "head and images swapped": (
        lambda b, t, w, v: finetune(b, t.train, t.head, CONFIG),  # type: ignore[arg-type]
        ArgumentError,
        "head is a LabelledImages",
    ),
    "images without labels": (
        lambda b, t, w, v: finetune(b, t.head, t.test.images, CONFIG),  # type: ignore[arg-type]
        ArgumentError,
        "images is a Tensor",
    ),
    "a dict as a config": (
        lambda b, t, w, v: finetune(b, t.head, t.test, {"iterations": 2}),  # type: ignore[arg-type]
        ArgumentError,
        "config is a dict",
    ),
    "a name as names": (
        lambda b, t, w, v: search_alpha(b, v, {"colours": (t.head, t.test)}, "colours", [], COARSE),
        ArgumentError,
        r"\['colours'\]",
    ),
    "a task as tasks": (lambda b, t, w, v: run_patch(b, t, [], PatchPlan()), ArgumentError, "pass a list of tasks"),  # type: ignore[arg-type]
    "a name as a task": (lambda b, t, w, v: run_patch(b, ["a"], [], PatchPlan()), ArgumentError, "pass Task"),  # type: ignore[list-item]
    "a config as a plan": (lambda b, t, w, v: run_patch(b, [t], [], CONFIG), ArgumentError, "pass PatchPlan"),  # type: ignore[arg-type]
    "a text as classnames": (lambda b, t, w, v: build_head(b, "cat", ["{}"]), HeadError, "list"),
    "a head of another width": (
        lambda b, t, w, v: evaluate(b.visual, b, torch.eye(5), t.test),
        HeadError,
        "5 numbers and the model's features 16",
    ),
    "a head of another width to train under": (
        lambda b, t, w, v: finetune(b, torch.eye(5), t.test, CONFIG),
        HeadError,
        "5 numbers",
    ),
    "a head with long rows": (lambda b, t, w, v: evaluate(b.visual, b, 5 * t.head, t.test), HeadError, "length 5"),
    "a head with long rows to train under": (
        lambda b, t, w, v: finetune(b, 5 * t.head, t.test, CONFIG),
        HeadError,
        "length 5",
    ),
    "a label beyond the head": (
        lambda b, t, w, v: evaluate(b.visual, b, t.head[:2], t.test),
        DatasetError,
        r"outside 0\.\.1",
    ),
    "images of another size": (
        lambda b, t, w, v: evaluate(b.visual, b, t.head, enlarged(t.test)),
        DatasetError,
        r"\[N, 32, 32, 3\]",
    ),
    "images of another size to train on": (
        lambda b, t, w, v: finetune(b, t.head, enlarged(t.test), CONFIG),
        DatasetError,
        r"\[N, 32, 32, 3\]",
    ),
    "no images": (
        lambda b, t, w, v: encode(b.visual, t.test.images[:0], b.preprocess),
        DatasetError,
        "no images",
    ),
    "a GPU that is not there": (lambda b, t, w, v: load_base("starter", device="cuda:99"), ConfigError, "use 'cpu'"),
    "a GPU that is not there to train on": (
        lambda b, t, w, v: finetune(b, t.head, t.test, CONFIG, device="cuda:99"),
        ConfigError,
        "CUDA devices",
    ),
    "a GPU that is not there to judge on": (
        lambda b, t, w, v: evaluate(b.visual, b, t.head, t.test, device="cuda:99"),
        ConfigError,
        "CUDA devices",
    ),
    "an unknown device": (lambda b, t, w, v: require_device("gpu"), ConfigError, "'cuda:N'"),
    "weights of a whole CLIP": (
        lambda b, t, w, v: task_vector(w, dict(b.model.state_dict())),
        PaintCoreError,
        "'visual\\.', and strip the prefix",
    ),
}


def enlarged(split: LabelledImages) -> LabelledImages:
    """The split as another model would read it."""
    return LabelledImages(split.images.repeat(1, 2, 2, 1), split.labels, split.classnames)


@pytest.mark.parametrize("guess", GUESSES)
def test_a_wrong_argument_is_refused_in_a_line_that_says_what_to_pass(
    guess: str, tiny_base: BaseModel, task: Task, theta: dict[str, torch.Tensor], tau: dict[str, torch.Tensor]
) -> None:
    call, error, message = GUESSES[guess]
    with pytest.raises(error, match=message) as refused:
        call(tiny_base, task, theta, tau)
    assert len(str(refused.value)) < 400


def test_the_base_is_never_written_into(
    tiny_base: BaseModel, theta: dict[str, torch.Tensor], tau: dict[str, torch.Tensor]
) -> None:
    before = {name: tensor.clone() for name, tensor in theta.items()}
    shared = mixed_copy(tiny_base.visual, [Term({**tau, "proj": torch.zeros_like(tau["proj"])}, 1.0)])
    for tower in (tiny_base.visual, shared):
        with pytest.raises(ArgumentError, match="shares memory"):
            mix_into(tower, tiny_base.visual.state_dict(), [Term(tau, 1.0)])
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny_base.visual.state_dict().items())
    mix_into(copy.deepcopy(tiny_base.visual), tiny_base.visual.state_dict(), [Term(tau, 1.0)])


def test_a_bare_task_vector_is_a_path(tiny_base: BaseModel, task: Task, tau: dict[str, torch.Tensor]) -> None:
    tasks = {"colours": (task.head, task.validation)}
    found = search_alpha(tiny_base, tau, tasks, ["colours"], [], COARSE)
    assert list(found.curve) == evaluate_curve(tiny_base, tau, tasks, COARSE.alphas("flat"), paired=True)
    assert found.choice == search_alpha(tiny_base, WeightPath.of(tau), tasks, ["colours"], [], COARSE).choice


def test_the_template_sets_of_open_clip_make_a_head(tiny_base: BaseModel) -> None:
    templates = open_clip.OPENAI_IMAGENET_TEMPLATES[:3]
    texts = [template("cat") for template in templates]
    expected = F.normalize(tiny_base.model.encode_text(tiny_base.tokenizer(texts)), dim=-1).mean(dim=0)  # type: ignore[operator]
    torch.testing.assert_close(build_head(tiny_base, ["cat"], templates)[0], F.normalize(expected, dim=-1))
    with pytest.raises(ArgumentError, match="return a text"):
        build_head(tiny_base, ["cat"], [lambda name: 5])  # type: ignore[arg-type, return-value]


def test_nothing_prints_its_pixels_or_weights(tiny_base: BaseModel, task: Task, tau: dict[str, torch.Tensor]) -> None:
    plan = PatchPlan(
        "single", FinetuneConfig(iterations=1, batch_size=4), AlphaOptions(step=0.5, strategy="interpolated")
    )
    result = run_patch(tiny_base, [task], [], plan)
    search = result.stages[0].search
    for each in (tiny_base, task, task.test, Term(tau, 1.0), WeightPath.of(tau), result, search, search.interpolants):
        assert len(repr(each)) < 300, type(each)
        assert "tensor(" not in repr(each)


def test_a_path_to_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PaintCoreError, match="does not exist"):
        load_base(tmp_path / "absent")
