"""Small files that are expensive to read."""

import io
import tarfile
import zipfile
from functools import cache

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.builders import digit_pngs
from tests.registry.uploads import FOLDERS

_START_OF_SCAN, _END = b"\xff\xda", b"\xff\xd9"
_SIDE = 7071


@cache
def jpeg_of_many_scans(num_scans: int = 600, side: int = 6000) -> bytes:
    """A progressive JPEG whose last scan is repeated: a decoder goes over all pixels for each."""
    plain = saved(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    start, end = plain.rindex(_START_OF_SCAN), plain.rindex(_END)
    return plain[:end] + plain[start:end] * num_scans + plain[end:]


@cache
def large_pictures() -> tuple[bytes, ...]:
    """Flat pictures of 50 million pixels in a few kilobytes."""
    grey, rgba = Image.new("L", (_SIDE, _SIDE), 200), Image.new("RGBA", (_SIDE, _SIDE), (9, 9, 9, 9))
    return (
        saved(grey, "PNG", compress_level=1),
        saved(rgba, "PNG", compress_level=1),
        saved(grey.convert("RGB"), "WEBP", quality=1, method=0),
        saved(grey, "TIFF", compression="tiff_lzw"),
    )


def saved(picture: Image.Image, form: str, **options: object) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


@cache
def pax_tar(num_bytes: int = 1 << 20) -> bytes:
    """A tar whose one extended header is nothing but records of two bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        header = tarfile.TarInfo("pax")
        header.type, header.size = tarfile.XHDTYPE, num_bytes
        archive.addfile(header, io.BytesIO(b"2\n" * (num_bytes // 2)))
        for name, data in FOLDERS.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


@cache
def zip_of_many_entries(num_entries: int = 300_000) -> bytes:
    """A zip whose directory is all that it holds."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/0.png", digit_pngs(0)[0])
        directory_at = archive.start_dir
    start = buffer.getvalue()[:directory_at]
    record = buffer.getvalue()[directory_at : buffer.getvalue().rindex(b"PK\5\6")]
    end = bytearray(buffer.getvalue()[buffer.getvalue().rindex(b"PK\5\6") :])
    end[8:12] = b"\xff\xff\xff\xff"
    end[12:16] = (len(record) * num_entries).to_bytes(4, "little")
    return start + record * num_entries + bytes(end)


@cache
def parquet_of_long_column() -> bytes:
    """A table whose only column has a name that a careless pattern takes hours for."""
    return parquet({"a" * 24 + "://" + ":" * 28_000: [1, 2]})


@cache
def zip_of_rejects(num_rows: int = 50_000) -> bytes:
    """A table of images that are all missing, under a name of 1,000 characters."""
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": digit_pngs(0)[0], "path": "0.png"}] + [None] * num_rows, picture)
    table = parquet({"image": images, "label": pa.array([0] * (num_rows + 1))})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{'n' * 980}.parquet", table)
    return buffer.getvalue()


@cache
def zip_of_hostile_names() -> bytes:
    """Class folders whose names move a terminal's cursor, end a string or are very long."""
    names = ("\x1b]52;c;ZXZpbA==\x07", "a\0b", "\u202etxt.exe", "x" * 5000, "<script>alert(1)</script>", "\u200b")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for digit, name in enumerate(names):
            archive.writestr(f"{name}/0.png", digit_pngs(digit)[0])
    return buffer.getvalue()


def parquet(columns: dict[str, object]) -> bytes:
    """A table as a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()
