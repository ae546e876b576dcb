"""From stored terms to a tower: the checks that API and worker share."""

from pathlib import Path

import pytest
import torch

from paint_core.errors import BatchNormError
from paint_core.weights import Term, mixed_copy, save_task_vector
from pipeline.towers import mix_tower
from registry.blobs import FileBlobStore
from registry.errors import BlobCorruptError
from registry.versions import TermSpec
from tests.paint_core import towers


def test_a_tower_is_mixed_from_what_is_stored_and_refused_if_a_term_moves_running_statistics(tmp_path: Path) -> None:
    base = towers.random_base(tmp_path / "resnet", towers.RESNET)
    blobs = FileBlobStore(tmp_path / "blobs")
    theta = {name: each for name, each in base.visual.state_dict().items() if each.is_floating_point()}
    tau = {name: torch.zeros_like(each) if "running" in name else 0.01 * each for name, each in theta.items()}
    sha256 = blobs.put_bytes(save_task_vector(tau, {"base": base.fingerprint}))
    calls: list[None] = []

    mixed = mix_tower(base, [TermSpec(sha256, 0.5)], blobs, lambda: calls.append(None)).state_dict()
    expected = mixed_copy(base.visual, [Term(tau, 0.5)]).state_dict()
    assert all(torch.equal(mixed[name], expected[name]) for name in expected)
    assert len(calls) >= len(tau)
    assert mix_tower(base, [], blobs) is base.visual

    moving = blobs.put_bytes(save_task_vector({name: 0.01 * each for name, each in theta.items()}, {}))
    with pytest.raises(BatchNormError):
        mix_tower(base, [TermSpec(moving, 1.0)], blobs)

    blobs.fetch(sha256).write_bytes(b"other bytes")
    with pytest.raises(BlobCorruptError):
        mix_tower(base, [TermSpec(sha256, 0.5)], blobs)
