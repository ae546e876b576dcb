"""A patch decodes a data set as it was ingested, within the operator's limit, and names the files that it cannot."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paint_core.errors import ImageDecodeError
from paint_core.models import BaseModel
from registry.blobs import FileBlobStore
from registry.shards import write_shard
from registry.tables import DatasetRow
from worker.settings import WorkerSettings
from worker.steps.prepare import decode_split


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _decoded(folder: Path, base: BaseModel, data: bytes, decoder: int, **settings: Any) -> Any:
    loaded = WorkerSettings.load(data_dir=folder / "data", **settings)
    loaded.make_directories()
    blobs = FileBlobStore(loaded.blob_dir)
    write_shard(folder / "shard", [(data, "cats/1.png", 0)], ("cat",))
    shards = {"test": {"sha256": blobs.put_file(folder / "shard"), "num_images": 1}}
    row = DatasetRow(name="pets", shards=shards, classnames=["cat"], decoder=decoder)
    run: Any = SimpleNamespace(blobs=blobs, settings=loaded)
    return decode_split(run, row, "test", base, lambda _: None).images


def test_a_data_set_keeps_the_pixels_that_it_was_ingested_with(tmp_path: Path, starter: BaseModel) -> None:
    nothing = _png(Image.new("RGBA", (64, 64)))
    black, white = (_decoded(tmp_path, starter, nothing, decoder) for decoder in (1, 2))
    assert np.asarray(black).max() == 0
    assert np.asarray(white).min() == 255


def test_the_pixel_limit_of_ingest_is_that_of_a_patch_and_the_file_is_named(tmp_path: Path, starter: BaseModel) -> None:
    large = _png(Image.new("L", (300, 300)))
    with pytest.raises(ImageDecodeError, match=r"pets: cats/1.png: 300 x 300 is more than 80,000 pixels"):
        _decoded(tmp_path, starter, large, 2, max_image_pixels=80_000)
    _decoded(tmp_path, starter, large, 2, max_image_pixels=90_000)
