"""Responses as tables of Arrow, pandas and NumPy, for those who have them installed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from paintbox_client.errors import InputError
from paintbox_client.records import Record, table_of

if TYPE_CHECKING:
    import numpy
    import pandas
    import pyarrow

_MOST_SHOWN = 100


class PredictionTable(Record):
    """A response with predictions of images, as a table with a row for each image and label."""

    def to_arrow(self) -> pyarrow.Table:
        """Return columns `image` (index), `rank` (from 1), `label`, `score`, `cosine`, `version` and `precision`."""
        arrow = _need("pyarrow")
        rows = [
            (image["index"], rank, each["label"], each["score"], each["cosine"])
            for image in self["results"]
            for rank, each in enumerate(image["predictions"], start=1)
        ]
        columns: list[Any] = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(5)]
        types = (arrow.int64(), arrow.int32(), arrow.string(), arrow.float64(), arrow.float64())
        return arrow.table(
            {
                name: arrow.array(column, kind)
                for name, column, kind in zip(
                    ("image", "rank", "label", "score", "cosine"), columns, types, strict=True
                )
            }
            | {
                "version": arrow.array([self["version"]] * len(rows), arrow.int64()),
                "precision": arrow.array([self.precision] * len(rows), arrow.string()),
            }
        )

    def to_pandas(self) -> pandas.DataFrame:
        """Return the columns of `to_arrow` as a data frame."""
        _need("pandas")
        frame: pandas.DataFrame = self.to_arrow().to_pandas()
        return frame

    def _repr_html_(self) -> str:
        """Return the best label of each image, which notebooks show."""
        best = [(each["index"], each["predictions"][:1]) for each in self["results"][:_MOST_SHOWN]]
        rows = [(at, found[0]["label"], f"{found[0]['score']:.3f}") if found else (at, "", "") for at, found in best]
        more = len(self["results"]) - len(best)
        return table_of(("image", "label", "score"), rows) + (f"<p>and {more} more</p>" if more else "")


class EmbeddingTable(Record):
    """A response with embeddings, as a table with a row for each image or text."""

    def to_numpy(self) -> numpy.ndarray[Any, Any]:
        """Return the embeddings as an array of float32, [number of images or texts, `dim`]."""
        vectors: numpy.ndarray[Any, Any] = _need("numpy").array(
            [each["embedding"] for each in self["embeddings"]], dtype="float32"
        )
        return vectors.reshape(-1, self["dim"])

    def to_arrow(self) -> pyarrow.Table:
        """Return columns `index`, `embedding` (a list of `dim` float32), `version` and `precision`."""
        arrow = _need("pyarrow")
        items, dim = self["embeddings"], self["dim"]
        vectors = arrow.array([each["embedding"] for each in items], arrow.list_(arrow.float32(), dim))
        return arrow.table(
            {
                "index": arrow.array([each["index"] for each in items], arrow.int64()),
                "embedding": vectors,
                "version": arrow.array([self["version"]] * len(items), arrow.int64()),
                "precision": arrow.array([self.precision] * len(items), arrow.string()),
            }
        )

    def to_pandas(self) -> pandas.DataFrame:
        """Return the columns of `to_arrow` as a data frame."""
        _need("pandas")
        frame: pandas.DataFrame = self.to_arrow().to_pandas()
        return frame


def _need(package: str) -> Any:
    """Return a package that is not a dependency of the client.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(f"This needs {package}, which is not installed.", f"Run pip install {package}.") from error
