"""Well-formed images, archives and model folders that mutations start from."""

import io
import json
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from tests.paint_core.images.color_profiles import profile
from tests.paint_core.tiny import MODEL_CFG, PREPROCESS_CFG, SIGLIP_CFG, noise, state_dict
from tests.registry.uploads import (
    CSV,
    FOLDERS,
    KINDS,
    LISTED,
    hugging_face_parquet,
    pack,
    tar_bytes,
    webdataset_shard,
)

_SIZE = (48, 40)
_TURNED = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"
_SAVED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("RGB", "JPEG", {}),
    ("L", "JPEG", {"progressive": True}),
    ("CMYK", "JPEG", {"progressive": True, "quality": 40}),
    ("RGB", "JPEG", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0", "comment": b"a comment", "dpi": (72, 72)}),
    (
        "RGB",
        "JPEG",
        {"exif": _TURNED, "icc_profile": profile()},
    ),
    ("RGB", "PNG", {}),
    ("RGBA", "PNG", {"optimize": True, "icc_profile": profile()}),
    ("L", "PPM", {}),
    ("P", "PNG", {"transparency": 3}),
    ("1", "PNG", {"bits": 1}),
    ("RGB", "WEBP", {}),
    ("RGBA", "WEBP", {"lossless": True}),
    ("P", "GIF", {}),
    ("RGB", "BMP", {}),
    ("P", "BMP", {}),
    ("RGB", "TIFF", {}),
    ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    ("RGB", "TIFF", {"compression": "jpeg"}),
    ("L", "TIFF", {"compression": "tiff_adobe_deflate"}),
    ("1", "TIFF", {"compression": "group4"}),
)


@cache
def images() -> tuple[bytes, ...]:
    """One file of every format and mode that is read."""
    files = [_saved(noise(_SIZE, mode, index), form, options) for index, (mode, form, options) in enumerate(_SAVED)]
    deep = Image.new("I;16", _SIZE, 40_000)
    frames = [noise(_SIZE, "P", seed) for seed in range(3)]
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "words " * 500, zip=True)
    animated = {"save_all": True, "append_images": frames[1:]}
    return (
        *files,
        _saved(deep, "PNG", {}),
        _saved(deep, "TIFF", {}),
        _saved(frames[0], "GIF", animated),
        _saved(frames[0].convert("RGB"), "WEBP", animated),
        _saved(frames[0].convert("RGB"), "TIFF", animated),
        _saved(noise(_SIZE), "PNG", {"pnginfo": text}),
    )


@cache
def archives() -> tuple[bytes, ...]:
    """One archive of every kind and layout that is read."""
    with tempfile.TemporaryDirectory() as folder:
        return tuple(path.read_bytes() for path in _write_archives(Path(folder)))


def _write_archives(folder: Path) -> Iterator[Path]:
    for kind in KINDS:
        yield pack(folder / f"folders.{kind}", FOLDERS, kind)
        yield pack(folder / f"listed.{kind}", {**LISTED, "metadata.csv": CSV.encode()}, kind)
    jsonl = "\n".join(json.dumps({"file_name": name, "label": "one"}) for name in LISTED)
    yield pack(folder / "jsonl.zip", {**LISTED, "metadata.jsonl": jsonl.encode()})
    yield hugging_face_parquet(folder / "rows.parquet", [0, 1, 0, 1])
    shard = webdataset_shard(folder / "shard.tar", [0, 1, 0, 1])
    yield shard
    yield pack(folder / "shards.zip", {"train/0.tar": shard.read_bytes(), "classnames.txt": b"zero\none\n"})
    for index, form in enumerate((0, 1)):  # ustar and GNU, with a name too long for the header
        path = folder / f"{index}.tar"
        path.write_bytes(
            tar_bytes({**FOLDERS, f"train/one/{'n' * 90}/{'m' * 60}.png": FOLDERS["train/one/0.png"]}, form)
        )
        yield path


@cache
def weights(siglip: bool) -> bytes:
    """The tiny model's weights as a safetensors file."""
    import safetensors.torch

    return safetensors.torch.save(state_dict(0, SIGLIP_CFG if siglip else MODEL_CFG))


def model_config(siglip: bool) -> dict[str, Any]:
    """The tiny model's configuration."""
    return {"model_cfg": SIGLIP_CFG if siglip else MODEL_CFG, "preprocess_cfg": dict(PREPROCESS_CFG)}


def _saved(picture: Image.Image, form: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()
