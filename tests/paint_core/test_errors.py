import pickle

from paint_core import errors


def all_classes(root: type[errors.PaintCoreError]) -> list[type[errors.PaintCoreError]]:
    return [root, *(found for child in root.__subclasses__() for found in all_classes(child))]


def test_every_class_has_its_own_stable_code() -> None:
    codes = [cls.code for cls in all_classes(errors.PaintCoreError)]
    assert len(set(codes)) == len(codes)
    assert all(code == code.lower() and " " not in code for code in codes)


def test_the_tree_in_the_docstring_names_every_class() -> None:
    assert errors.__doc__ is not None
    assert all(cls.__name__ in errors.__doc__ for cls in all_classes(errors.PaintCoreError))


def test_a_diverged_run_names_its_step_also_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(errors.NonFiniteLossError(7)))
    assert error.step == 7
    assert "step 7" in str(error)
    assert "learning_rate" in str(error)
