"""Images and labels in memory, as PIL, torchvision's data sets and the rows of `datasets` have them.

Each image becomes a file in memory, so that it is decoded in the one place where all images are: orientation,
transparency, depth and colour are treated as in a file.
"""

import io
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from paint_core.errors import DatasetError

_LABEL_NAMES = ("label", "labels", "class", "target")
_ONLY_TIFF = {"F", "I", "CMYK", "LAB"}
_AS_RGB = {"HSV": "RGB", "YCbCr": "RGB", "RGBX": "RGB", "RGBa": "RGBA", "La": "LA"}
_PROFILE_OF = {b"RGB ": {"RGB", "RGBA", "P"}, b"GRAY": {"L", "LA", "1", "I;16"}, b"CMYK": {"CMYK"}}


class PairSource:
    """The input of `LabelledImages.from_pairs`.

    Attributes:
        names: of the classes; for string labels without classnames, those seen so far.
    """

    def __init__(self, pairs: Iterable[Any], classnames: Sequence[str] | None, columns: tuple[str, str] | None) -> None:
        """Finds the classnames; the arguments are those of `LabelledImages.from_pairs`.

        Raises:
            DatasetError: the classnames are not a list of different names.
        """
        self._pairs, self._columns = pairs, columns
        own = _own_names(pairs, columns) if classnames is None else classnames
        if own is not None and (isinstance(own, str) or len(set(own)) < len(own)):
            raise DatasetError("classnames must be a list of different names: correct them")
        self.names = list(own or ())
        self._is_complete = own is not None
        self._label_of = {name: label for label, name in enumerate(self.names)}

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Each image as the bytes of a file, with its label as an index into `names`.

        Raises:
            DatasetError: an image or a label of an unsupported type, or an unknown label.
        """
        for number, row in enumerate(_rows(self._pairs)):
            try:
                picture, label = self._unpack(row)
                yield _file_of(picture), self._index(label)
            except DatasetError as error:
                raise DatasetError(f"item {number}: {error}") from error

    def sorted_order(self) -> list[int] | None:
        """For each of `names` its position in sorted order; None if they came with the data set."""
        if self._is_complete:
            return None
        order = sorted(self.names)
        return [order.index(name) for name in self.names]

    def _unpack(self, row: Any) -> tuple[Any, Any]:
        if isinstance(row, Mapping):
            picture, label = self._columns or _columns_of(row)
            missing = [name for name in (picture, label) if name not in row]
            if missing:
                raise DatasetError(f"the column {missing[0]!r} is not among {sorted(row)}: correct `columns`")
            return row[picture], row[label]
        if isinstance(row, tuple | list) and len(row) == 2:
            return row[0], row[1]
        raise DatasetError(f"a {type(row).__name__} is not a pair: give (image, label), or rows with named columns")

    def _index(self, label: Any) -> int:
        if isinstance(label, str):
            if label not in self._label_of:
                if self._is_complete:
                    raise DatasetError(f"the label {label!r} is not among the classnames {self.names[:5]}: correct it")
                self._label_of[label] = len(self.names)
                self.names.append(label)
            return self._label_of[label]
        try:
            index = operator.index(label)
        except TypeError as error:
            raise DatasetError(f"the label is a {type(label).__name__}: give an index or a classname") from error
        if not self._is_complete:
            raise DatasetError(f"the label {index} is an index, but there are no classnames: give `classnames`")
        if not 0 <= index < len(self.names):
            raise DatasetError(f"the label {index} is outside 0..{len(self.names) - 1}: correct it, or drop the item")
        return index


def _rows(pairs: Any) -> Iterator[Any]:
    # torchvision's data sets can be indexed and have a length, but are no iterables.
    if not hasattr(pairs, "__iter__") and hasattr(pairs, "__len__") and hasattr(pairs, "__getitem__"):
        return (pairs[index] for index in range(len(pairs)))
    if isinstance(pairs, str | bytes | Mapping) or not hasattr(pairs, "__iter__"):
        raise DatasetError(f"a {type(pairs).__name__} contains no pairs: give an iterable of (image, label)")
    return iter(pairs)


def _own_names(pairs: Any, columns: tuple[str, str] | None) -> Sequence[str] | None:
    """The classnames that a data set of torchvision or `datasets` has itself."""
    features = getattr(pairs, "features", None)
    if isinstance(features, Mapping):
        wanted = [columns[1]] if columns else [name for name in features if hasattr(features[name], "names")]
        named = [features[name].names for name in wanted if hasattr(features.get(name), "names")]
        return named[0] if len(named) == 1 else None
    while not hasattr(pairs, "classes") and hasattr(pairs, "dataset"):  # a Subset
        pairs = pairs.dataset
    classes = getattr(pairs, "classes", None)
    return classes if isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes) else None


def _columns_of(row: Mapping[str, Any]) -> tuple[str, str]:
    pictures = [name for name, value in row.items() if _is_picture(value)]
    rest = [name for name, value in row.items() if name not in pictures and isinstance(value, int | str | np.integer)]
    labels = [name for name in rest if name in _LABEL_NAMES] or rest
    if len(pictures) != 1 or len(labels) != 1:
        raise DatasetError(
            f"columns {sorted(row)[:10]}: the columns of image and label are ambiguous; specify them, such as "
            "columns=('image', 'label')"
        )
    return pictures[0], labels[0]


def _is_picture(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "bytes" in value
    return isinstance(value, Image.Image | bytes) or (isinstance(value, np.ndarray) and value.ndim >= 2)


def _file_of(picture: Any) -> bytes:
    if isinstance(picture, Mapping):  # a row of `datasets` that is not decoded
        picture = picture.get("bytes") or picture.get("path")
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture)
    if isinstance(picture, str | Path):
        try:
            return Path(picture).read_bytes()
        except OSError as error:
            raise DatasetError(f"{picture} cannot be read ({error.strerror}): check the path") from error
    if isinstance(picture, np.ndarray):
        picture = _image_of(picture)
    if isinstance(picture, Image.Image):
        return _encode(picture)
    raise DatasetError(
        f"the image is a {type(picture).__name__}: give PIL images, bytes or paths, and remove the data set's own "
        "transform"
    )


def _image_of(array: np.ndarray[Any, Any]) -> Image.Image:
    is_picture = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not is_picture or array.size == 0:
        raise DatasetError(f"the array is {array.dtype} {list(array.shape)}: give uint8 [H, W] or [H, W, 3]")
    return Image.fromarray(array)


def _encode(image: Image.Image) -> bytes:
    """The image as a PNG, or as a TIFF if a PNG cannot hold it; its orientation and a profile that fits it are kept."""
    image = image.convert(_AS_RGB[image.mode]) if image.mode in _AS_RGB else image
    profile = image.info.get("icc_profile") or b""
    fits = image.mode in _PROFILE_OF.get(profile[16:20], set())
    options: dict[str, Any] = {"icc_profile": profile if fits else None}
    exif = image.getexif()
    if exif:
        options["exif"] = exif
    buffer = io.BytesIO()
    if image.mode in _ONLY_TIFF:
        image.save(buffer, "TIFF", **options)
    else:
        image.save(buffer, "PNG", compress_level=1, **options)
    return buffer.getvalue()
