import gc
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from paint_core.config.finetune import FinetuneConfig
from paint_core.data import decode_all
from paint_core.data.image_store import ImageStore, Scratch
from paint_core.errors import DatasetError
from paint_core.models import BaseModel, build_head
from paint_core.training.finetuning import finetune
from tests.paint_core import tiny

SIDE = 8
BYTES = SIDE * SIDE * 3


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def fill(store: ImageStore, images: np.ndarray) -> torch.Tensor:
    for image in images:
        store.append(image)
    return store.images()


def is_mapped_from(folder: Path) -> bool:
    return str(folder) in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("expected", [0, 64, 300])
@pytest.mark.parametrize("limit_bytes", [0, 100 * BYTES, 10_000 * BYTES])
def test_pictures_come_back_as_they_went_in_wherever_they_lie(tmp_path: Path, expected: int, limit_bytes: int) -> None:
    images = pictures(300)
    stored = fill(ImageStore(SIDE, expected, Scratch(tmp_path, limit_bytes)), images)
    assert torch.equal(stored, torch.from_numpy(images))


def test_a_split_beyond_the_limit_lies_in_a_file_and_one_below_in_memory(tmp_path: Path) -> None:
    small = fill(ImageStore(SIDE, 64, Scratch(tmp_path, 64 * BYTES)), pictures(64))
    assert not is_mapped_from(tmp_path)
    large = fill(ImageStore(SIDE, 65, Scratch(tmp_path, 64 * BYTES)), pictures(65))
    assert is_mapped_from(tmp_path)
    assert len(small) + len(large) == 129


def test_the_file_has_no_name_and_goes_with_its_tensor(tmp_path: Path) -> None:
    stored = fill(ImageStore(SIDE, 200, Scratch(tmp_path, 0)), pictures(200))
    assert os.listdir(tmp_path) == []
    assert is_mapped_from(tmp_path)
    del stored
    gc.collect()
    assert not is_mapped_from(tmp_path)


def test_a_folder_without_room_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="free some space"):
        ImageStore(SIDE, 2**62 // BYTES, Scratch(tmp_path, 0))


def test_fine_tuning_from_a_file_equals_fine_tuning_from_memory(tiny_base: BaseModel, tmp_path: Path) -> None:
    files = [(tiny.png(tiny.noise((32, 32), seed=index)), index % 3) for index in range(12)]
    in_memory = decode_all(files, tiny_base.preprocess, tiny.COLOURS)
    in_a_file = decode_all(files, tiny_base.preprocess, tiny.COLOURS, scratch=Scratch(tmp_path, 0))
    head = build_head(tiny_base, tiny.COLOURS, ("{}",))
    config = FinetuneConfig(iterations=3, batch_size=8, learning_rate=1e-3, warmup_steps=1)
    theta = [finetune(tiny_base, head, images, config) for images in (in_memory, in_a_file)]
    assert all(torch.equal(theta[0][name], theta[1][name]) for name in theta[0])
