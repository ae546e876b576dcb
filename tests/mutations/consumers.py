"""What reads a mutated input, as the product does. Each returns how it ended; what it may not raise is a finding."""

import builtins
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from paint_core.errors import ImageDecodeError, PaintCoreError
from paint_core.images.decoding import check_picture
from registry.errors import RegistryError
from registry.intake.reading import look, read_upload
from tests.mutations import folders, seeds
from tests.mutations.mutators import mutate_bytes

Consumer = Callable[[int, int, Path], str]


def image(seed: int, index: int, folder: Path) -> str:
    """Decode a mutated image as ingest and as serving does."""
    from open_clip.transform import PreprocessCfg  # noqa: F401  (loads torch once, before the clock matters)

    source, files = random.Random(f"image {seed} {index}"), seeds.images()
    data = mutate_bytes(source.choice(files), source, files)
    endings = []
    for read in (check_picture, _serve):
        try:
            read(data)
            endings.append("read")
        except ImageDecodeError:
            endings.append("refused")
    return "/".join(endings)


def archive(seed: int, index: int, folder: Path) -> str:
    """Look at a mutated archive as the API does, then read it as ingest does."""
    source, files = random.Random(f"archive {seed} {index}"), seeds.archives()
    scratch = folder / "scratch"
    scratch.mkdir()
    path = folder / "upload"
    path.write_bytes(mutate_bytes(source.choice(files), source, files))
    try:
        look(path)
        plan = read_upload(path, scratch)
        for _, data in plan.container.read(each.name for each in plan.images):
            if isinstance(data, bytes):
                _check(data)
        return "read"
    except RegistryError:
        return "refused"


def model(seed: int, index: int, folder: Path) -> str:
    """Load a mutated model folder as the API does at its start, and encode with what was loaded."""
    from paint_core.models import build_head, load_base

    source = random.Random(f"model {seed} {index}")
    folders.write_mutated(folder / "model", source)
    try:
        base = load_base(f"local-dir:{folder / 'model'}")
        build_head(base, ("a", "b"), ("{}",))
        return "read"
    except PaintCoreError:
        return "refused"
    finally:
        if vars(builtins).pop("code_of_folder_ran", False):
            raise AssertionError("code of the folder was run")


CONSUMERS: dict[str, Consumer] = {"images": image, "archives": archive, "models": model}


def empty(folder: Path) -> None:
    """Remove what an input has left."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _check(data: bytes) -> None:
    try:
        check_picture(data)
    except ImageDecodeError:
        return


def _serve(data: bytes) -> None:
    from paint_core.images.preprocess import Preprocess

    Preprocess({"size": 32}).decode(data, reduced=True)
