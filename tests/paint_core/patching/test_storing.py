"""Task vectors as they are stored: alpha is chosen along them, and rounding costs what the report says."""

import pytest

from paint_core.alpha import AlphaOptions, CurvePoint, Path, combined, evaluate_curve
from paint_core.data import Task
from paint_core.errors import ConfigError
from paint_core.models import BaseModel
from paint_core.patching import PatchPlan, PatchResult, run_patch, storing
from paint_core.patching.plan import StoredBits
from paint_core.patching.storing import TOLERANCE_POINTS
from paint_core.weights import rounded
from tests.paint_core.patches import COARSE, CONFIG, MemoryJournal, old_task, same_bits, two_tasks

KEY = "task:colours"


@pytest.fixture(scope="module")
def tasks(tiny_base: BaseModel) -> tuple[Task, Task]:
    return two_tasks(tiny_base)[0], old_task(tiny_base)


@pytest.fixture(scope="module")
def journal() -> MemoryJournal:
    return MemoryJournal()


def patch(base: BaseModel, tasks: tuple[Task, Task], journal: MemoryJournal, bits: StoredBits) -> PatchResult:
    task, supported = tasks
    return run_patch(base, [task], [supported], PatchPlan("single", CONFIG, COARSE, bits=bits), journal=journal)


def measured(base: BaseModel, tasks: tuple[Task, Task], result: PatchResult, alpha: float) -> CurvePoint:
    splits = {task.name: (task.head, task.validation) for task in tasks}
    (point,) = evaluate_curve(base, Path.of(result.vectors[KEY]), splits, [alpha])
    return point


@pytest.mark.parametrize("bits", [16, 8, 4])
def test_alpha_is_chosen_along_the_stored_vector_and_the_loss_is_against_the_unrounded_one(
    tiny_base: BaseModel, tasks: tuple[Task, Task], journal: MemoryJournal, bits: StoredBits
) -> None:
    whole, result = (patch(tiny_base, tasks, journal, each) for each in (32, bits))
    assert same_bits(result.vectors[KEY], rounded(journal.vectors[KEY], bits))  # type: ignore[arg-type]
    assert same_bits(result.vectors[KEY], journal.stored[KEY])
    (stage,) = result.stages
    point = measured(tiny_base, tasks, result, stage.search.choice.alpha)
    assert {name: score.correct for name, score in point.scores.items()} == {
        name: score.correct
        for name, score in next(p for p in stage.search.curve if p.alpha == point.alpha).scores.items()
    }
    assert stage.storage.bits == bits
    if bits == 16:
        assert stage.storage.loss_points is None
    else:
        unrounded = measured(tiny_base, tasks, whole, point.alpha)
        values = [combined(each, ["colours"], ["old"]) for each in (unrounded, point)]
        assert stage.storage.loss_points == pytest.approx(100 * (values[0] - values[1]))


@pytest.mark.parametrize("tolerance", [TOLERANCE_POINTS, 0.5, -100.0])
def test_auto_stores_the_fewest_bits_that_cost_next_to_nothing(
    tiny_base: BaseModel,
    tasks: tuple[Task, Task],
    journal: MemoryJournal,
    tolerance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storing, "TOLERANCE_POINTS", tolerance)
    storage = patch(tiny_base, tasks, journal, "auto").stages[0].storage
    losses = {bits: patch(tiny_base, tasks, journal, bits).stages[0].storage.loss_points for bits in (4, 8)}
    sound = [bits for bits, loss in losses.items() if loss is not None and loss <= tolerance]
    assert storage.bits == (sound[0] if sound else 16)


def test_auto_evaluates_once_more_than_one_search_where_four_bits_cost_nothing(
    tiny_base: BaseModel, tasks: tuple[Task, Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "TOLERANCE_POINTS", 100.0)
    journal = MemoryJournal()
    assert patch(tiny_base, tasks, journal, "auto").stages[0].storage.bits == 4
    (key,) = journal.curves
    assert key == f"select:{KEY}:4 bits in blocks of 32"


def test_with_folds_task_vectors_are_stored_in_16_bits(tiny_base: BaseModel, tasks: tuple[Task, Task]) -> None:
    task, supported = tasks
    short = PatchPlan("single", CONFIG, AlphaOptions(step=1.0), folds=2, bits="auto")
    journal = MemoryJournal()
    result = run_patch(tiny_base, [task], [supported], short, journal=journal)
    assert result.stages[0].storage.bits == 16
    assert result.stages[0].storage.loss_points is None
    assert same_bits(result.vectors["all"], journal.stored["all"])


@pytest.mark.parametrize("tolerance", [100.0, -100.0])
def test_with_rule_certified_there_is_one_search_along_bits_that_the_patching_task_settled(
    tiny_base: BaseModel, tasks: tuple[Task, Task], tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "TOLERANCE_POINTS", tolerance)
    certified = AlphaOptions(rule="certified", max_mean_drop=50.0, step=0.25)
    journal, (task, supported) = MemoryJournal(), tasks
    result = run_patch(
        tiny_base, [task], [supported], PatchPlan("single", CONFIG, certified, bits="auto"), journal=journal
    )
    assert result.stages[0].storage.bits == (4 if tolerance > 0 else 16)
    assert len(journal.curves) == 1
    assert same_bits(result.vectors[KEY], rounded(journal.vectors[KEY], result.stages[0].storage.bits))


def test_other_numbers_of_bits_are_refused() -> None:
    with pytest.raises(ConfigError, match="use 'auto', 32, 16, 8 or 4"):
        PatchPlan(bits=12)  # type: ignore[arg-type]
