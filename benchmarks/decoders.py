"""Is another JPEG decoder so much faster than Pillow that it is worth a dependency?

The same photographs, whole and reduced by the JPEG itself to at least 1.5 times the side of the starter's input, as the
service decodes them; processor time of one thread, in turns. Decoders that are not installed are left out: `pip install
simplejpeg opencv-python-headless`. A decoder is taken if it is at least 1.3 times as fast with equal pixels.

    python benchmarks/decoders.py [--quick] [--photos FOLDER] [--json FILE]
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _report import Figure, measure, medians, parser, report
from _serving.bodies import find_photos
from _serving.client import CHECKOUT
from numpy.typing import NDArray
from PIL import Image

Decode = Callable[[bytes], NDArray[np.uint8]]
WORTH_IT = 1.3
_LEAST_SIDE = 96


def pillow(data: bytes) -> NDArray[np.uint8]:
    """Decode with Pillow, which the service uses."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def pillow_reduced(data: bytes) -> NDArray[np.uint8]:
    """Decode at the smallest of the file's own scales that is large enough."""
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (_LEAST_SIDE, _LEAST_SIDE))
        return np.asarray(image.convert("RGB"))


def others() -> tuple[dict[str, Decode], dict[str, Decode]]:
    """Return what is installed beside it: decoders of whole pictures, and of reduced ones."""
    whole: dict[str, Decode] = {}
    reduced: dict[str, Decode] = {}
    if (simplejpeg := _installed("simplejpeg")) is not None:
        whole["simplejpeg"] = lambda data: simplejpeg.decode_jpeg(data, "RGB")
        reduced["simplejpeg"] = lambda data: simplejpeg.decode_jpeg(
            data, "RGB", min_height=_LEAST_SIDE, min_width=_LEAST_SIDE
        )
    if (cv2 := _installed("cv2")) is not None:
        cv2.setNumThreads(1)
        whole["opencv"] = lambda data: cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), 1), cv2.COLOR_BGR2RGB)
    torchvision = import_module("torchvision.io")
    whole["torchvision"] = lambda data: (
        torchvision.decode_jpeg(
            torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=torchvision.ImageReadMode.RGB
        )
        .permute(1, 2, 0)
        .numpy()
    )
    return whole, reduced


def compare(kind: str, ours: Decode, theirs: Mapping[str, Decode], photos: list[bytes], rounds: int) -> list[Figure]:
    """Return how much faster each decoder is, and the largest difference of a pixel from Pillow's."""
    ways = {"pillow": ours, **theirs}
    runs = {name: partial(_decode_all, decode, photos) for name, decode in ways.items()}
    found = medians(measure(runs, rounds, time.process_time))
    print(f"{kind}: " + ", ".join(f"{name} {1000 * s / len(photos):.2f} ms" for name, s in found.items()), flush=True)
    figures = []
    for name, decode in theirs.items():
        figures.append(Figure(f"{name}_{kind}_over_pillow", found["pillow"] / found[name], "x", WORTH_IT))
        pairs = [(ours(each), decode(each)) for each in photos[:20]]
        if all(first.shape == second.shape for first, second in pairs):  # else it has chosen another scale
            apart = max(np.abs(first.astype(int) - second).max() for first, second in pairs)
            figures.append(Figure(f"{name}_{kind}_pixels_apart", float(apart), "of 255"))
    return figures


def _decode_all(decode: Decode, photos: list[bytes]) -> None:
    for each in photos:
        decode(each)


def _installed(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        print(f"{name} is not installed")
        return None


def main() -> None:
    """Measure whole and reduced pictures."""
    arguments = parser(__doc__)
    arguments.add_argument("--photos", type=Path, metavar="FOLDER")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    photos, told = find_photos(options.photos, CHECKOUT)
    photos = [each for each in photos if each[:2] == b"\xff\xd8"]
    print(f"{len(photos)} JPEG files: {told}")
    whole, reduced = others()
    rounds = 3 if options.quick else 9
    figures = compare("whole", pillow, whole, photos, rounds)
    figures += compare("reduced", pillow_reduced, reduced, photos, rounds)
    report(figures, options.json)


if __name__ == "__main__":
    main()
