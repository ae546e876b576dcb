"""The exported graphs hold the model: ONNX Runtime and OpenVINO compute the same features from them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from paint_core.errors import ExportError, ProbeError
from paint_core.exporting import ExportFormat, Label, require_exportable, write_export
from paint_core.models import BaseModel, build_head
from paint_core.models.heads import encode_texts
from paint_core.programs.conversion import convert
from paint_core.programs.program import Program
from tests.paint_core import tiny
from tests.paint_core.exporting.models import clip, probe_of, siglip

runtime = pytest.importorskip("onnxruntime")
LABELS = (Label("red", ("{}", "a {} picture")), Label("green", ("{}",)))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return clip(tmp_path_factory.mktemp("base") / "base", text={"context_length": 12})


@pytest.fixture(scope="module")
def program(base: BaseModel) -> Program:
    return convert(base.visual, base.preprocess)


def run(path: Path, **inputs: np.ndarray) -> torch.Tensor:
    (features,) = runtime.InferenceSession(str(path)).run(None, inputs)
    return torch.from_numpy(features)


def test_onnx_runtime_computes_the_features_of_any_number_of_images_and_texts(
    base: BaseModel, program: Program, tmp_path: Path
) -> None:
    assert write_export(tmp_path, base, "onnx", probe_of(base), program=program, labels=LABELS) > 0.9999
    for count in (1, 5):
        images = tiny.coloured(base, count).images
        with torch.inference_mode():
            expected = F.normalize(base.visual(base.preprocess.normalise(images)), dim=-1)
        torch.testing.assert_close(run(tmp_path / "image.onnx", images=images.numpy()), expected, atol=1e-5, rtol=1e-4)
        texts = [f"a photo of {number} cats, and some more words than there is room for" for number in range(count)]
        tokens = base.tokenizer(texts).numpy()
        torch.testing.assert_close(
            run(tmp_path / "text.onnx", tokens=tokens), encode_texts(base, texts), atol=1e-5, rtol=1e-4
        )


def test_the_facts_the_tokenizer_and_the_head_lie_beside(base: BaseModel, program: Program, tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    write_export(tmp_path, base, "onnx", probe_of(base), program=program, labels=LABELS)
    facts = json.loads((tmp_path / "preprocess.json").read_text())
    assert (facts["image"]["size"], facts["image"]["resize_mode"]) == (base.image_size, "shortest")
    assert facts["logit_scale"] == base.logit_scale
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    texts = ["a cat", "many " * 40]
    assert [each.ids for each in tokenizer.encode_batch(texts)] == base.tokenizer(texts).tolist()
    head = torch.from_numpy(np.load(tmp_path / "head.npy", allow_pickle=False))
    torch.testing.assert_close(head[:1], build_head(base, ["red"], ("{}", "a {} picture")))
    assert [each["name"] for each in json.loads((tmp_path / "labels.json").read_text())] == ["red", "green"]


def test_large_weights_go_into_a_file_of_their_own(
    base: BaseModel, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paint_core.exporting.onnx_folder._MOST_IN_ONE_FILE_BYTES", 1000)
    write_export(tmp_path, base, "onnx", probe_of(base), program=program)
    assert (tmp_path / "image.onnx.data").stat().st_size > (tmp_path / "image.onnx").stat().st_size
    assert not (tmp_path / "head.npy").exists()


def test_nothing_in_the_files_tells_where_they_were_made(base: BaseModel, program: Program, tmp_path: Path) -> None:
    write_export(tmp_path, base, "onnx", probe_of(base), program=program)
    for path in tmp_path.iterdir():
        assert str(Path(sys.prefix)).encode() not in path.read_bytes(), path.name
        assert b"site-packages" not in path.read_bytes(), path.name


def test_a_siglip_is_exported_with_its_bias_and_its_tokenizer(tmp_path: Path) -> None:
    base = siglip(tmp_path / "base")
    out = tmp_path / "out"
    out.mkdir()
    assert write_export(out, base, "onnx", probe_of(base), program=convert(base.visual, base.preprocess)) > 0.9999
    assert json.loads((out / "preprocess.json").read_text())["logit_bias"] == -10


def test_weights_that_are_not_those_of_the_version_are_not_handed_out(
    base: BaseModel, program: Program, tmp_path: Path
) -> None:
    with pytest.raises(ProbeError, match="ONNX Runtime computes other features with the exported image tower"):
        write_export(tmp_path, base, "onnx", probe_of(base).flip(0), program=program)


def test_a_tower_without_a_program_is_refused(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as refused:
        write_export(tmp_path, base, "onnx", probe_of(base))
    assert "openvino" not in refused.value.usable
    assert "open_clip" in refused.value.usable


@pytest.mark.parametrize("chosen", ["transformers", "onnx", "openvino"])
def test_a_package_that_is_not_installed_is_named(base: BaseModel, chosen: ExportFormat, monkeypatch: Any) -> None:
    monkeypatch.setattr("paint_core.exporting.formats.importlib.util.find_spec", lambda _: None)
    with pytest.raises(ExportError, match=rf"install paintbox\[{chosen}\]: use open_clip$"):
        require_exportable(base, chosen)


def test_open_clip_is_written_as_ever(base: BaseModel, tmp_path: Path) -> None:
    assert write_export(tmp_path, base, "open_clip", probe_of(base)) == 1.0
    assert (tmp_path / "open_clip_model.safetensors").is_file()


def test_openvino_computes_the_features(base: BaseModel, program: Program, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    assert write_export(tmp_path, base, "openvino", probe_of(base), program=program, labels=LABELS) > 0.9999
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "head.npy",
        "image.bin",
        "image.xml",
        "labels.json",
        "preprocess.json",
        "text.bin",
        "text.xml",
        "tokenizer.json",
    ]
    images = tiny.coloured(base, 3).images
    compiled = openvino.Core().compile_model(str(tmp_path / "image.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.inference_mode():
        expected = F.normalize(base.visual(base.preprocess.normalise(images)), dim=-1)
    found = torch.from_numpy(np.array(compiled(images.numpy())[0]))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_asking_which_formats_work_loads_none_of_the_packages() -> None:
    names = ("onnx", "onnxruntime", "openvino")
    code = f"import sys, paint_core.exporting; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
