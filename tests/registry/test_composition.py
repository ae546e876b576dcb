"""Terms are a sum: what is added can be taken away, and order does not matter."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from registry.composition import add_up, same_mix, scale, without
from registry.versions import TermSpec

A, B = "a" * 64, "b" * 64

terms = st.builds(
    TermSpec,
    st.sampled_from([A, B]),
    st.floats(-10, 10).filter(lambda value: abs(value) > 1e-6),
    st.sampled_from(["flat", "lines"]),
)
mixes = st.lists(terms, max_size=8)


def total(mix: list[TermSpec]) -> dict[tuple[str, str], float]:
    sums: dict[tuple[str, str], float] = defaultdict(float)
    for term in mix:
        sums[term.task_vector_sha256, term.profile] += term.coefficient
    return sums


@given(mixes)
def test_adding_up_keeps_the_sum_and_names_each_vector_and_profile_once(mix: list[TermSpec]) -> None:
    added = add_up(mix)
    assert len({(term.task_vector_sha256, term.profile) for term in added}) == len(added)
    expected, got = total(mix), total(list(added))
    assert all(abs(expected[key] - got[key]) < 1e-9 for key in expected.keys() | got.keys())


@given(mixes)
def test_what_is_added_and_taken_away_leaves_nothing(mix: list[TermSpec]) -> None:
    assert add_up((*mix, *scale(mix, -1))) == ()


def test_the_order_is_that_of_the_first_mention() -> None:
    mix = (TermSpec(B, 1.0), TermSpec(A, 0.5), TermSpec(B, 0.25), TermSpec(B, 1.0, "lines"))
    assert add_up(mix) == (TermSpec(B, 1.25), TermSpec(A, 0.5), TermSpec(B, 1.0, "lines"))


def test_rounding_does_not_keep_a_term_alive() -> None:
    assert add_up((TermSpec(A, 0.1), TermSpec(A, 0.2), TermSpec(A, -0.3))) == ()


def test_a_vector_is_taken_out_in_every_profile() -> None:
    mix = (TermSpec(A, 1.0), TermSpec(B, 1.0), TermSpec(A, 0.5, "lines"))
    assert without(mix, {A}) == (TermSpec(B, 1.0),)


@given(st.lists(terms, max_size=8).flatmap(lambda mix: st.tuples(st.just(mix), st.permutations(mix))))
def test_order_makes_no_other_mix(pair: tuple[list[TermSpec], list[TermSpec]]) -> None:
    assert same_mix(*pair)


def test_another_coefficient_profile_or_vector_is_another_mix() -> None:
    mix = (TermSpec(A, 0.5),)
    assert same_mix(mix, (TermSpec(A, 0.5 + 1e-15),))
    for other in (TermSpec(A, 0.55), TermSpec(A, 0.5, "lines"), TermSpec(B, 0.5)):
        assert not same_mix(mix, (other,))
    assert not same_mix(mix, ())
