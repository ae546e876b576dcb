"""The search over learning rate and iterations: which trials there are, which one is the patch, what it equals."""

import dataclasses
from fractions import Fraction

import pytest

from paint_core.alpha import AlphaOptions, Goal
from paint_core.config.finetune import FinetuneConfig
from paint_core.errors import NoAcceptableAlphaError, NonFiniteLossError
from paint_core.models import BaseModel
from paint_core.patching import Event, PatchPlan, PatchResult, run_patch
from paint_core.patching.trials import GRID, MAX_TRIALS, Trial, shared_error, trial_configs
from tests.paint_core.patches import COARSE, CONFIG, MemoryJournal, old_task, same_bits, two_tasks

SHORT = dataclasses.replace(CONFIG, iterations=6, warmup_steps=2)
PLAN = PatchPlan("single", SHORT, COARSE, tune=4)


def run(base: BaseModel, plan: PatchPlan, events: list[Event] | None = None) -> PatchResult:
    on_event = None if events is None else events.append
    return run_patch(base, two_tasks(base)[:1], [old_task(base)], plan, on_event=on_event)


@pytest.fixture(scope="module")
def alone(tiny_base: BaseModel) -> list[PatchResult]:
    """A patch of its own for the settings of each trial."""
    configs = trial_configs(SHORT, 4)
    return [run(tiny_base, PatchPlan("single", config, COARSE)) for config in configs]


def test_the_patch_is_the_best_of_the_patches_that_each_trial_would_be_alone(
    tiny_base: BaseModel, alone: list[PatchResult]
) -> None:
    events: list[Event] = []
    tuned = run(tiny_base, PLAN, events)
    searches = [each.stages[-1].search for each in alone]
    goal = Goal.of(COARSE, ["colours"], ["old"])
    values = [goal.preference(search.choice, search.curve) for search in searches]
    best = values.index(max(values))
    assert len(set(values)) > 1  # else anything would be the best
    assert [trial.is_chosen for trial in tuned.trials] == [place == best for place in range(4)]
    assert [trial.alpha for trial in tuned.trials] == [search.choice.alpha for search in searches]
    for trial, search in zip(tuned.trials, searches, strict=True):
        (point,) = [point for point in search.curve if point.alpha == trial.alpha]
        assert (trial.patching, trial.supported) == (point.scores["colours"].accuracy, point.scores["old"].accuracy)
    assert [term.key for term in tuned.terms] == [f"trial {best + 1}"]
    assert same_bits(tuned.vectors[f"trial {best + 1}"], alone[best].vectors["task:colours"])
    assert tuned.patched == alone[best].patched
    assert list(tuned.stages[-1].search.curve) == list(searches[best].curve)
    told = [event for event in events if isinstance(event, Trial)]
    assert [dataclasses.replace(each, is_chosen=False) for each in tuned.trials] == told
    assert any("trial" in note for note in tuned.notes)


def test_of_equal_trials_the_first_is_taken(tiny_base: BaseModel, alone: list[PatchResult]) -> None:
    """Without learning all trials end at the same weights, so the patch is the one without a search."""
    still = dataclasses.replace(SHORT, learning_rate=1e-30, weight_decay=0.0)
    plain = run(tiny_base, PatchPlan("single", still, COARSE))
    tuned = run(tiny_base, PatchPlan("single", still, COARSE, tune=3))
    assert [trial.is_chosen for trial in tuned.trials] == [True, False, False]
    assert tuned.patched == plain.patched
    assert same_bits(tuned.vectors["trial 1"], plain.vectors["task:colours"])


def test_where_all_trials_diverge_the_patch_fails_as_one_does(tiny_base: BaseModel) -> None:
    far = dataclasses.replace(SHORT, learning_rate=1e37, warmup_steps=0)
    with pytest.raises(NonFiniteLossError):
        run(tiny_base, PatchPlan("single", far, COARSE, tune=2))


def test_a_trial_without_an_acceptable_alpha_is_out_with_its_reason(tiny_base: BaseModel) -> None:
    floor = AlphaOptions(step=0.5, rule="floor", max_supported_drop=0.0)
    mild = run(tiny_base, PatchPlan("single", dataclasses.replace(SHORT, learning_rate=1e-3), floor, tune=4))
    assert [trial.alpha is None for trial in mild.trials] == [False, True, False, True]
    assert "no alpha keeps every supported task" in mild.trials[1].failure
    assert mild.trials[1].patching is None
    assert [trial.is_chosen for trial in mild.trials] == [True, False, False, False]
    wild = dataclasses.replace(SHORT, learning_rate=3e-2)
    with pytest.raises(NoAcceptableAlphaError):
        run(tiny_base, PatchPlan("single", wild, floor, tune=2))


def test_joint_patches_are_tuned_too(tiny_base: BaseModel) -> None:
    journal = MemoryJournal()
    plan = PatchPlan("joint", dataclasses.replace(SHORT, iterations=2, warmup_steps=0), COARSE, tune=3, bits=4)
    result = run_patch(tiny_base, two_tasks(tiny_base), [old_task(tiny_base)], plan, journal=journal)
    assert list(journal.made) == ["trial 1", "trial 2", "trial 3"]
    (term,) = result.terms
    assert same_bits(result.vectors[term.key], journal.stored[term.key])


def test_the_grid_begins_with_the_given_settings_and_has_no_pair_twice() -> None:
    assert (GRID[0], len(GRID), len(set(GRID))) == ((1.0, Fraction(1)), MAX_TRIALS, MAX_TRIALS)
    config = FinetuneConfig(iterations=100, warmup_steps=7, learning_rate=1e-4)
    for count in range(2, MAX_TRIALS + 1):
        assert trial_configs(config, count) == trial_configs(config, MAX_TRIALS)[:count]
    found = trial_configs(config, MAX_TRIALS)
    assert found[0] == config
    assert found[4] == dataclasses.replace(config, learning_rate=2e-4, iterations=200, warmup_steps=14)
    assert {each.warmup_steps / each.iterations for each in found} <= {0.07, 0.06}
    single = trial_configs(FinetuneConfig(iterations=1), MAX_TRIALS)
    assert len({(each.learning_rate, each.iterations) for each in single}) == len(single) < MAX_TRIALS


def test_trials_share_the_error_of_a_certificate() -> None:
    options = AlphaOptions(rule="certified", confidence=0.95)
    assert shared_error(options, 4).confidence == pytest.approx(0.9875)
    assert shared_error(COARSE, 4) is COARSE
