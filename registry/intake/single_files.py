"""Unsupported files, recognised by their first bytes: what they are, and how to make them readable."""

from __future__ import annotations

from registry.errors import ArchiveRefusedError

_MNIST = (
    'Write class folders, such as with `python -c "from torchvision.datasets import MNIST; import os; '
    "[(os.makedirs(f'{s}/{y}', exist_ok=True), x.save(f'{s}/{y}/{i}.png')) for s in ('train', 'test') "
    "for i, (x, y) in enumerate(MNIST('.', s == 'train', download=True))]\"`, and upload the folder that holds train/ "
    "and test/."
)
_MATLAB = (
    'Write class folders, such as with `python -c "from torchvision.datasets import SVHN; import os; '
    "[(os.makedirs(f'{s}/{y}', exist_ok=True), x.save(f'{s}/{y}/{i}.png')) for s in ('train', 'test') "
    "for i, (x, y) in enumerate(SVHN('.', s, download=True))]\"` for SVHN, and upload the folder that holds train/ and "
    "test/."
)
_KNOWN = (
    (b"Rar!", "a RAR archive", "Convert it: `unrar x FILE.rar folder/ && paintbox upload folder`."),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "Convert it: `7z x FILE.7z -ofolder && paintbox upload folder`."),
    (b"\0\0\x08\x01", "an idx file of labels, as in MNIST", _MNIST),
    (b"\0\0\x08\x03", "an idx file of images, as in MNIST", _MNIST),
    (b"MATLAB 5.0 MAT-file", "a MATLAB file", _MATLAB),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "Write its images into class folders, and upload the folder."),
    (b"\x93NUMPY", "a NumPy array", "Write its images into class folders, and upload the folder."),
    (b"ARROW1", "an Arrow file", "Write it as Parquet: `datasets.Dataset.from_file(FILE).to_parquet('data.parquet')`."),
    (
        b"\xff\xff\xff\xff",
        "an Arrow stream",
        "Write it as Parquet: `datasets.load_from_disk(FOLDER).to_parquet(FILE)`.",
    ),
    (b"\x80\x02", "a Python pickle", "It is not opened, because that would execute code. Convert it to class folders."),
    (b"\x80\x03", "a Python pickle", "It is not opened, because that would execute code. Convert it to class folders."),
    (b"\x80\x04", "a Python pickle", "It is not opened, because that would execute code. Convert it to class folders."),
    (b"SQLite format 3", "an SQLite database", "Write its images into class folders, and upload the folder."),
    (b"\xff\xd8\xff", "a single JPEG image", "Upload a folder with one subfolder of images per class."),
    (b"\x89PNG", "a single PNG image", "Upload a folder with one subfolder of images per class."),
)


def explain_file(start: bytes, otherwise: str, accepted: str) -> ArchiveRefusedError:
    """Return the error of an upload in an unsupported format.

    Args:
        start: Its first bytes, unpacked.
        otherwise: Description of a file with unknown first bytes; may be empty.
    """
    for magic, what, advice in _KNOWN:
        if start.startswith(magic):
            return ArchiveRefusedError("unknown_format", f"Unsupported file type: {what}.", advice)
    if otherwise:
        return ArchiveRefusedError("unknown_format", f"Unsupported file type: {otherwise}.", accepted)
    if start and b"\0" not in start and all(byte >= 9 for byte in start):
        return ArchiveRefusedError("unknown_format", "The file is a text file without images.", accepted)
    return ArchiveRefusedError("unknown_format", "Unsupported file type.", accepted)
