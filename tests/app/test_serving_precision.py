"""In what arithmetic a version is served: the configured one, if it gives the same features there."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from app.models import precisions
from app.models.bases import register_bases
from app.models.loader import VersionLoader
from app.models.served_model import ServedPrecision
from contract.jobs import JobKind
from contract.lineage import Lineage
from contract.precision import PrecisionCheck
from paint_core.config.precision import ServingPrecision, WantedPrecision, has_bf16
from paint_core.evaluation import probe_features, probe_images
from paint_core.models import BaseModel, load_base
from paint_core.weights import save_task_vector
from pipeline.programs import ProgramStore
from registry.blobs import FileBlobStore
from registry.database import Database
from registry.jobs import Jobs
from registry.versions import TermSpec, Versions
from tests.app.test_followers import classify
from tests.app.world import mixed_tower, open_world, random_task_vector
from tests.support.databases import open_migrated

CHECK = PrecisionCheck(
    precision="bf16", accepted=True, reason=None, num_images=9, cosine=1.0, agreement=1.0, drop_points=0.0
)


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
    monkeypatch.setattr(precisions, "has_bf16", lambda _: True)
    monkeypatch.setattr(precisions, "has_int8", lambda _: True)


def _load(
    database: Database, folder: Path, base: BaseModel, precision: WantedPrecision, version_id: int | None = None
) -> ServedPrecision:
    bases = {base.fingerprint: base}
    register_bases(database, bases)
    with database.read() as session:
        version = Versions(session).base_version(base.fingerprint)
        assert version is not None
        version_id = version_id or version.id
    model = VersionLoader(
        database, FileBlobStore(folder / "blobs"), bases, precision=precision, programs=ProgramStore()
    ).load(version_id)
    assert model.runner.is_exact == (model.precision.precision == "fp32")
    assert model.encode(probe_images(base.image_size)).shape == (4, base.embed_dim)
    return model.precision


@pytest.mark.usefixtures("with_instructions")
def test_a_sound_tower_is_served_in_bf16_where_that_is_configured(
    database: Database, tmp_path: Path, base: BaseModel
) -> None:
    assert _load(database, tmp_path, base, "bf16") == ServedPrecision("bf16")
    assert _load(database, tmp_path, base, "fp32") == ServedPrecision("fp32")


@pytest.mark.usefixtures("with_instructions")
@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({"fp32": 1.0, "bf16": 0.7, "int8": 0.5}, "int8"),
        ({"fp32": 1.0, "bf16": 0.5, "int8": 0.7}, "bf16"),
        ({"fp32": 1.0, "bf16": 0.95, "int8": 1.2}, "fp32"),
        ({"fp32": 1.0}, "fp32"),
    ],
)
def test_auto_uses_what_is_fastest_here(
    database: Database,
    tmp_path: Path,
    base: BaseModel,
    monkeypatch: pytest.MonkeyPatch,
    seconds: dict[ServingPrecision, float],
    expected: str,
) -> None:
    monkeypatch.setattr(precisions, "measure_seconds", lambda *_: seconds)
    used = _load(database, tmp_path, base, "auto")
    assert used.precision == expected
    assert ("not faster" in used.reason) == (expected == "fp32")


@pytest.mark.usefixtures("with_instructions")
@pytest.mark.parametrize(
    ("checks", "expected", "reason"),
    [
        ([], "fp32", "have not been compared"),
        ([CHECK], "bf16", ""),
        ([CHECK.model_copy(update={"accepted": False, "reason": "a task loses 2.00 points"})], "fp32", "loses 2.00"),
    ],
    ids=["not compared", "accepted", "refused"],
)
def test_a_patched_version_is_served_in_bf16_only_if_its_validation_images_have_shown_it(
    database: Database, tmp_path: Path, base: BaseModel, checks: list[PrecisionCheck], expected: str, reason: str
) -> None:
    register_bases(database, {base.fingerprint: base})
    tau = random_task_vector(base, 1)
    sha256 = FileBlobStore(tmp_path / "blobs").put_bytes(save_task_vector(tau, {}))
    with database.write() as session:
        job = Jobs(session).create(JobKind.PATCH, "pt_x")
        versions = Versions(session)
        versions.add_task_vector(
            sha256=sha256, base_fingerprint=base.fingerprint, num_bytes=1, relative_norm=0.1, job_id=job.id
        )
        row = versions.register(
            name="patched",
            base_fingerprint=base.fingerprint,
            terms=[TermSpec(sha256, 1.0)],
            probe=probe_features(mixed_tower(base, tau, 1.0), base).tolist(),
            lineage=Lineage(),
            job_id=job.id,
            precision_checks=checks,
        )
        version = row.id
    used = _load(database, tmp_path, base, "bf16", version)
    assert used.precision == expected
    assert reason in used.reason


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
    monkeypatch.setattr(precisions, "has_bf16", lambda _: False)
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


def test_the_precision_of_one_version_can_be_chosen_while_it_serves(tmp_path: Path) -> None:
    with open_world(tmp_path, serving_precision="auto") as world:
        version = world.client.get("/v1/aliases/active").json()["version"]
        path = f"/v1/versions/{version}"
        assert world.client.get(path).json()["serving_precision"] == "installation"
        refused = world.client.patch(path, json={"serving_precision": "fp8"})
        assert refused.status_code == 422
        for chosen in ("fp32", "int8", "installation"):
            changed = world.client.patch(path, json={"serving_precision": chosen})
            assert changed.json()["serving_precision"] == chosen
            wanted = None if chosen == "installation" else chosen
            world.services.follower.follow()
            active = world.services.versions.require_active()
            assert (active.version_id, active.wanted) == (version, wanted)
            assert world.services.versions.require_active() is active, "it is loaded once"
            answered = classify(world.client)
            assert answered["precision"] == active.precision.precision
