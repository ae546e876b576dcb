import pytest
from hypothesis import given
from hypothesis import strategies as st

from paint_core.errors import ConfigError, WeightsMismatchError
from paint_core.patching.compose import Mix, NamedTerm, compose, negate, remove, scale

BASE = "a" * 64
COEFFICIENTS = st.floats(-4, 4).filter(lambda value: value == 0 or abs(value) > 1e-3)
TERMS = st.builds(NamedTerm, st.sampled_from("abcd"), COEFFICIENTS, st.sampled_from(["flat", "lines"]))
MIXES = st.builds(Mix, st.just(BASE), st.lists(TERMS, max_size=5).map(tuple))


def total(mix: Mix, key: str, profile: str) -> float:
    return sum(term.coefficient for term in mix.terms if (term.key, term.profile) == (key, profile))


@given(st.lists(MIXES, min_size=1, max_size=4))
def test_composing_adds_the_coefficients_of_each_task_vector_and_profile(mixes: list[Mix]) -> None:
    whole = compose(mixes)
    for key in "abcd":
        for profile in ("flat", "lines"):
            assert total(whole, key, profile) == pytest.approx(sum(total(mix, key, profile) for mix in mixes))
    assert len({(term.key, term.profile) for term in whole.terms}) == len(whole.terms)


@given(MIXES)
def test_a_mix_and_its_negation_are_the_base(mix: Mix) -> None:
    once = compose([mix])
    assert compose([once, negate(once)]) == Mix(BASE)


@given(MIXES, MIXES)
def test_removing_what_was_composed_leaves_the_other_patches(first: Mix, second: Mix) -> None:
    own = {key for key in second.keys if key not in first.keys}
    rest = remove(compose([first, second]), own & set(compose([first, second]).keys)).mix
    assert not own & set(rest.keys)
    untouched = set(first.keys) - set(second.keys)
    for key in untouched:
        assert total(rest, key, "flat") == pytest.approx(total(first, key, "flat"))


def test_undoing_a_patch_that_others_build_on_is_allowed_and_noted() -> None:
    mix = Mix(BASE, (NamedTerm("task:a", 0.5), NamedTerm("task:b", 0.4, builds_on=("task:a",))))
    removal = remove(mix, ["task:a"])
    assert removal.mix.keys == ("task:b",)
    (note,) = removal.notes
    assert "'task:b' was measured on top of 'task:a'" in note
    assert remove(mix, ["task:b"]).notes == ()


def test_undoing_a_patch_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="no term 'task:c': choose among task:a"):
        remove(Mix(BASE, (NamedTerm("task:a", 0.5),)), ["task:a", "task:c"])


def test_mixes_of_two_bases_are_refused_by_name() -> None:
    with pytest.raises(WeightsMismatchError, match=f"{BASE}, {'b' * 64}"):
        compose([Mix(BASE), Mix("b" * 64)])
    with pytest.raises(ConfigError, match="nothing to compose"):
        compose([])


def test_scaling_scales_every_patch_and_zero_leaves_the_base() -> None:
    mix = Mix(BASE, (NamedTerm("task:a", 0.5), NamedTerm("task:b", -1.0, "lines")))
    assert scale(mix, 0.5).terms == (NamedTerm("task:a", 0.25), NamedTerm("task:b", -0.5, "lines"))
    assert scale(mix, 0.0) == Mix(BASE)
    with pytest.raises(ConfigError, match="'task:a' is inf"):
        scale(mix, float("inf"))
