"""Pictograms as small pictures with transparency, rendered once and kept as arrays."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import resvg_py
from numpy.typing import NDArray
from PIL import Image

from recipes.starter.names import thing
from recipes.starter.sources import Source, load_json

SIDE = 80
"""Pixels a side: more than the model reads, so that a picture can be scaled up a little."""

_CHUNK = 64


def rendered(source: Source, folder: Path) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """Return the names of a set's pictograms and their pictures, uint8 [N, SIDE, SIDE, 4]; rendered now if need be.

    Args:
        source: Role `emoji`, `icons` or `held_out`.
        folder: Where packages and arrays are kept.

    Raises:
        FetchError: The package cannot be had.
    """
    stem = folder / f"{source.name}-{source.version}-{SIDE}px"
    pictures, names = stem.with_suffix(".npy"), stem.with_suffix(".txt")
    if not names.exists():
        found, arrays = rendered_items(list(drawings(load_json(source, folder), is_emoji=source.role != "icons")))
        np.save(pictures, arrays)
        names.write_text("\n".join(found), encoding="utf-8")  # last: it says that both are there
    return tuple(names.read_text(encoding="utf-8").split("\n")), np.load(pictures, mmap_mode="r")


def drawings(icons: Mapping[str, Any], *, is_emoji: bool) -> Iterator[tuple[str, str]]:
    """Yield name and SVG text of each pictogram that shows a thing.

    Args:
        icons: An Iconify set: `icons` with `body`, and sizes where they differ from the set's own.
        is_emoji: As for `names.thing`.
    """
    for slug, icon in icons["icons"].items():
        name = None if icon.get("hidden") else thing(slug, is_emoji=is_emoji)
        if name is None:
            continue
        left, top, width, height = (
            icon.get(key, icons.get(key, default))
            for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
        )
        box = f'viewBox="{left} {top} {width} {height}"'
        yield name, f'<svg xmlns="http://www.w3.org/2000/svg" {box} color="black">{icon["body"]}</svg>'


def rendered_items(items: list[tuple[str, str]]) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """Return the names and pictures, uint8 [N, SIDE, SIDE, 4], of all SVG texts that show something.

    Args:
        items: Names with SVG texts.
    """
    with ProcessPoolExecutor(mp_context=get_context("forkserver")) as pool:
        pictures = list(pool.map(_render, [svg for _, svg in items], chunksize=_CHUNK))
    pairs = [(name, picture) for (name, _), picture in zip(items, pictures, strict=True) if picture is not None]
    return tuple(name for name, _ in pairs), np.stack([picture for _, picture in pairs])


def _render(svg: str) -> NDArray[np.uint8] | None:
    """The picture, centred; None for one that cannot be drawn or is empty."""
    try:
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIDE, skip_system_fonts=True))
    except ValueError:
        return None
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    picture.thumbnail((SIDE, SIDE))
    canvas = Image.new("RGBA", (SIDE, SIDE))
    canvas.paste(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
    pixels = np.asarray(canvas)
    return pixels if pixels[..., 3].max() > 0 else None
