"""Responses as tables and in notebooks."""

import builtins
import importlib
from typing import Any

import pytest

from paintbox_client import InputError
from paintbox_client.resources.inference import Classification, Embeddings

ANSWER = {
    "version": 3,
    "alias": "active",
    "precision": "fp32",
    "results": [
        {"index": 0, "predictions": [{"label": "cat", "score": 0.75, "cosine": 0.25}]},
        {"index": 1, "predictions": []},
        {
            "index": 2,
            "predictions": [
                {"label": "<b>dog", "score": 0.5, "cosine": 0.2},
                {"label": "cat", "score": 0.25, "cosine": 0.1},
            ],
        },
    ],
}
VECTORS = {
    "version": 3,
    "precision": "bf16",
    "dim": 2,
    "embeddings": [{"index": 0, "embedding": [1.0, 0.0]}, {"index": 1, "embedding": [0.0, -1.0]}],
}


def test_predictions_are_a_table_with_a_row_for_each_image_and_label() -> None:
    table = Classification(ANSWER).to_arrow()
    assert table.column_names == ["image", "rank", "label", "score", "cosine", "version", "precision"]
    assert table["image"].to_pylist() == [0, 2, 2]
    assert table["rank"].to_pylist() == [1, 1, 2]
    assert table["label"].to_pylist() == ["cat", "<b>dog", "cat"]
    frame = Classification(ANSWER).to_pandas()
    assert frame.groupby("image").score.max().to_dict() == {0: 0.75, 2: 0.5}
    assert set(frame.version) == {3}


def test_a_response_without_predictions_is_an_empty_table_of_the_same_columns() -> None:
    empty = Classification(ANSWER | {"results": []})
    assert empty.to_arrow().schema == Classification(ANSWER).to_arrow().schema
    assert len(empty.to_pandas()) == 0


def test_embeddings_are_vectors() -> None:
    answer = Embeddings(VECTORS)
    assert answer.to_numpy().tolist() == [[1.0, 0.0], [0.0, -1.0]]
    assert str(answer.to_numpy().dtype) == "float32"
    assert answer.to_arrow()["embedding"].to_pylist() == [[1.0, 0.0], [0.0, -1.0]]
    assert list(answer.to_pandas().columns) == ["index", "embedding", "version", "precision"]


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "pyarrow":
            raise ImportError(name)
        return whole(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(InputError, match=r"needs pyarrow, which is not installed. Run pip install pyarrow"):
        Classification(ANSWER).to_arrow()


def test_notebooks_show_the_best_label_of_each_image_without_its_markup() -> None:
    shown = Classification(ANSWER)._repr_html_()
    assert "<td>0</td><td>cat</td><td>0.750</td>" in shown
    assert "&lt;b&gt;dog" in shown
    many = Classification(ANSWER | {"results": [ANSWER["results"][0]] * 103})  # type: ignore[index]
    assert "and 3 more" in many._repr_html_()


def test_notebooks_show_the_fields_of_other_objects() -> None:
    shown = Embeddings(VECTORS)._repr_html_()
    assert "<td>version</td><td>3</td>" in shown
    assert "<td>embeddings</td><td>[2 items]</td>" in shown
