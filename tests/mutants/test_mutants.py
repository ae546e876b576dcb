"""What is changed, what is left alone, and which tests are run for it."""

import textwrap

from tests.mutants.mutator import compiles, find_mutants
from tests.mutants.reach import Reach, nearest_tests


def changes(source: str) -> list[str]:
    """Every mutant of a source, as its changed line."""
    source = textwrap.dedent(source).strip() + "\n"
    before = source.splitlines()
    lines = []
    for mutant in find_mutants("some.py", source):
        after = mutant.apply(source)
        assert compiles(after)
        lines += [line.strip() for line, old in zip(after.splitlines(), before, strict=False) if line != old]
    return lines


def test_operators_comparisons_conditions_numbers_arguments_returns_and_statements_are_changed() -> None:
    source = """
        def mean(values, most=3):
            if len(values) > most and not values[0]:
                values.sort(reverse=True)
            total = 0.5
            total += sum(values)
            return total / len(values) if values else -1
        """
    assert sorted(changes(source)) == sorted(
        [
            "def mean(values, most=4):",
            "if (not (len(values) > most and not values[0])):",
            "if len(values) > most or not values[0]:",
            "if len(values) >= most and not values[0]:",
            "if len(values) > most and (values[0]):",
            "if len(values) > most and not values[1]:",
            "pass",
            "values.sort()",
            "values.sort(reverse=False)",
            "total = 1.0",
            "pass",
            "total -= sum(values)",
            "return None",
            "return total / len(values) if (not (values)) else -1",
            "return total * len(values) if values else -1",
            "return total / len(values) if values else (1)",
            "return total / len(values) if values else -2",
        ]
    )


def test_texts_types_assertions_and_messages_are_left_alone() -> None:
    source = '''
        """A docstring."""
        __all__ = ["a"]
        Number = int | float
        def name(each: int | None) -> str | None:
            """A docstring with 1 number."""
            assert each != 0
            label = "some " + f"{each + 1}"
            raise ValueError(f"{each + 1} is not {1}")
        '''
    assert changes(source) == ["pass"]


def test_letters_of_several_bytes_do_not_move_what_is_replaced() -> None:
    assert changes('x = ("…", 1)') == ['x = ("…", 2)']


def test_a_mutant_has_the_same_key_wherever_it_stands_and_equal_ones_have_different_keys() -> None:
    source = "def f(x):\n    return x > 1\n\n\ndef g(x):\n    return (x > 1, x > 1)\n"
    keys = {mutant.key: mutant.kind for mutant in find_mutants("some.py", source)}
    moved = {mutant.key: mutant.kind for mutant in find_mutants("some.py", "import math\n\n\n" + source)}
    assert keys == moved
    assert list(keys.values()).count("comparison") == 3


def test_the_tests_of_the_changed_function_run_and_those_named_after_its_file_first() -> None:
    reach = {
        "tests/paint_core/test_all.py::test_quick": Reach(0.1, frozenset({"paint_core/heads.py:logits"})),
        "tests/paint_core/test_heads.py::test_slow": Reach(5.0, frozenset({"paint_core/heads.py:logits"})),
        "tests/paint_core/test_heads.py::test_else": Reach(0.1, frozenset({"paint_core/heads.py:fill"})),
        "tests/paint_core/test_all.py::test_for_hours": Reach(5000.0, frozenset({"paint_core/heads.py:logits"})),
        "tests/paint_core/test_other.py::test_other": Reach(0.1, frozenset({"paint_core/tower.py:learning"})),
    }
    assert nearest_tests(reach, "paint_core/heads.py", "logits") == [
        "tests/paint_core/test_heads.py::test_slow",
        "tests/paint_core/test_heads.py::test_else",
        "tests/paint_core/test_all.py::test_quick",
    ]
    assert set(nearest_tests(reach, "paint_core/heads.py", "")) == {
        test for test in reach if "other" not in test and "hours" not in test
    }
    assert nearest_tests(reach, "paint_core/absent.py", "f") == []
