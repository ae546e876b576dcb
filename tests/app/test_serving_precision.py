"""In what arithmetic a version is served: the configured one, if it gives the same features there."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from app.models import loader
from app.models.bases import register_bases
from app.models.loader import VersionLoader
from paint_core.config.precision import RunPrecision, has_bf16
from paint_core.evaluation import UsedPrecision, probe_images
from paint_core.models import BaseModel, load_base
from registry.blobs import FileBlobStore
from registry.database import Database
from registry.versions import Versions
from tests.app.world import open_world
from tests.support.databases import open_migrated


class Coarse(nn.Module):
    """A tower that computes something else in bfloat16: it looks at differences that the format does not have."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.tower(images)
        steps = torch.linspace(1, 1.001, features.shape[1]).to(features.dtype)
        return features * (1 + 1e4 * (steps - steps[0]))


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("starter")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_migrated(tmp_path / "paintbox.db")
    yield opened
    opened.close()


@pytest.fixture
def with_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor that has them; the features are the same without, only slower."""
    monkeypatch.setattr(loader, "has_bf16", lambda _: True)


def _load(database: Database, folder: Path, base: BaseModel, precision: RunPrecision) -> UsedPrecision:
    bases = {base.fingerprint: base}
    register_bases(database, bases)
    with database.read() as session:
        version = Versions(session).base_version(base.fingerprint)
        assert version is not None
        version_id = version.id
    model = VersionLoader(database, FileBlobStore(folder / "blobs"), bases, precision=precision).load(version_id)
    assert model.runner.is_exact == (model.precision.precision == "fp32")
    assert model.encode(probe_images(base.image_size)).shape == (4, base.embed_dim)
    return model.precision


@pytest.mark.usefixtures("with_instructions")
def test_a_sound_tower_is_served_in_bf16_where_that_is_configured(
    database: Database, tmp_path: Path, base: BaseModel
) -> None:
    assert _load(database, tmp_path, base, "bf16") == UsedPrecision("bf16")
    assert _load(database, tmp_path, base, "fp32") == UsedPrecision("fp32")
    assert _load(database, tmp_path, base, "auto") == UsedPrecision("fp32"), "on a processor, until it is proven better"


@pytest.mark.usefixtures("with_instructions")
def test_a_tower_that_bf16_changes_is_served_in_fp32_and_says_why(
    database: Database, tmp_path: Path, base: BaseModel
) -> None:
    coarse = base.with_tower(Coarse(copy.deepcopy(base.visual)).eval())
    used = _load(database, tmp_path, coarse, "bf16")
    assert used.precision == "fp32"
    assert "bf16 gives other features" in used.reason
    assert "cosine" in used.reason


def test_a_processor_without_instructions_serves_in_fp32(
    database: Database, tmp_path: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "has_bf16", lambda _: False)
    used = _load(database, tmp_path, base, "bf16")
    assert (used.precision, "no bf16 instructions" in used.reason) == ("fp32", True)


def test_the_system_tells_the_arithmetic(tmp_path: Path) -> None:
    with open_world(tmp_path, serving_precision="bf16") as world:
        system = world.client.get("/v1/system").json()
    if has_bf16(torch.device("cpu")):
        assert (system["serving_precision"], system["precision_reason"]) == ("bf16", None)
    else:
        assert system["serving_precision"] == "fp32"
        assert "no bf16 instructions" in system["precision_reason"]
