"""A Parquet file takes as much memory and time as its bytes justify, whatever it claims and repeats."""

import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from registry.archives import ArchiveLimits
from registry.errors import ArchiveRefusedError
from registry.intake.page_headers import read_page_sizes
from registry.intake.parquet_pages import ParquetTable
from tests.registry.uploads import ONE, ZERO, contents, pack, read, rejected

MEBIBYTE = 1 << 20
SMALL = ArchiveLimits(ratio_floor_bytes=MEBIBYTE)


def refusal(path: Path, limits: ArchiveLimits = SMALL, **members: bytes) -> ArchiveRefusedError:
    with pytest.raises(ArchiveRefusedError) as refused:
        read(
            pack(path.with_name("zip"), {**members, "x.parquet": path.read_bytes()}) if members else path, None, limits
        )
    assert len(str(refused.value)) < 2500
    assert str(refused.value).isprintable()
    return refused.value


def repeated(value: Any, num_rows: int) -> pa.Array:
    """A column that names one value in each row, and holds it once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * num_rows, pa.int32()), pa.array([value]))


def write(path: Path, image: Any, label: Any, **options: Any) -> Path:
    image = pa.StructArray.from_arrays([image if isinstance(image, pa.Array) else pa.array(image)], ["bytes"])
    options = {"compression": "zstd", "store_schema": False, "dictionary_pagesize_limit": 1 << 30, **options}
    pq.write_table(pa.table({"image": image, "label": label}), path, **options)
    return path


def varint(number: int, length: int = 0) -> bytes:
    """Thrift's signed number, in at least so many bytes."""
    encoded, left = b"", number << 1
    while left or not encoded or len(encoded) < length:
        encoded += bytes([left & 0x7F | 0x80])
        left >>= 7
    return encoded[:-1] + bytes([encoded[-1] & 0x7F])


def lie(path: Path, size: int) -> None:
    """Make the footer say that what has this size unpacked has 100 bytes."""
    data = path.read_bytes()
    told = varint(size)
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    assert told in data[start:]
    path.write_bytes(data[:start] + data[start:].replace(told, varint(100, len(told))))


@contextmanager
def arrow_memory() -> Iterator[pa.MemoryPool]:
    """Count what Arrow takes meanwhile."""
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    try:
        yield pool
    finally:
        pa.set_memory_pool(before)


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
@pytest.mark.parametrize(
    "options", [{}, {"data_page_version": "2.0"}, {"use_dictionary": False}, {"data_page_size": 64}]
)
def test_the_sizes_of_pages_are_those_that_the_footer_of_an_honest_file_tells(
    tmp_path: Path, compression: str, options: dict[str, Any]
) -> None:
    labels = [f"class {number % 7}" for number in range(3000)]
    path = write(
        tmp_path / "x", [ZERO[0], ONE[0]] * 1500, labels, compression=compression, row_group_size=700, **options
    )
    with path.open("rb") as file, pq.ParquetFile(path) as parquet:
        for group in range(parquet.metadata.num_row_groups):
            for column in range(2):
                chunk = parquet.metadata.row_group(group).column(column)
                sizes = list(read_page_sizes(file, chunk, path.stat().st_size))
                overhead = chunk.total_uncompressed_size - sum(sizes)  # of the headers, which count too
                assert 0 < overhead < 2000 * len(sizes)


@pytest.mark.parametrize("lies", [False, True])
def test_a_page_that_unpacks_to_much_is_refused_before_it_is_unpacked(tmp_path: Path, lies: bool) -> None:
    path = write(tmp_path / "x", repeated(bytes(32 * MEBIBYTE), 8), ["a"] * 8)
    assert path.stat().st_size < 8192
    if lies:
        lie(path, pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size)
        assert pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size == 100
    with arrow_memory() as memory:
        assert refusal(path).code == "archive_bomb"
        assert (memory.max_memory() or 0) < MEBIBYTE


@pytest.mark.parametrize("label", ["a", None], ids=["usable rows", "rejected rows"])
def test_what_rows_repeat_is_counted_though_the_file_holds_it_once(tmp_path: Path, label: str | None) -> None:
    path = write(tmp_path / "x", repeated(bytes(200_000), 5000), pa.array([label] * 5000, pa.string()))
    with arrow_memory() as memory:
        assert refusal(path).code == "archive_bomb"
        assert (memory.max_memory() or 0) < 8 * MEBIBYTE


def test_labels_that_repeat_a_long_text_are_refused_too(tmp_path: Path) -> None:
    path = write(tmp_path / "x", [ZERO[0]] * 5000, repeated("x" * 200_000, 5000))
    assert refusal(path).code == "archive_bomb"
    few = write(tmp_path / "y", [ZERO[0], ZERO[1]], ["x" * 5000, "a"])
    assert rejected(read(few)) == {"data.parquet#0": "has a label that is too long"}


def test_a_metadata_table_has_the_same_budget(tmp_path: Path) -> None:
    table = pa.table({"file_name": repeated("x" * 200_000, 5000), "label": ["a"] * 5000})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", store_schema=False, dictionary_pagesize_limit=1 << 30)
    path = pack(tmp_path / "x", {"metadata.parquet": buffer.getvalue(), "a.png": ZERO[0]})
    with pytest.raises(ArchiveRefusedError) as refused:
        read(path, limits=SMALL)
    assert refused.value.code == "archive_bomb"


def test_a_row_group_need_not_fit_into_memory(tmp_path: Path) -> None:
    images = [bytes([number]) * (64 << 10) for number in range(200)]
    options = {"compression": "none", "use_dictionary": False, "data_page_size": MEBIBYTE, "write_batch_size": 4}
    path = write(tmp_path / "x", images, ["a"] * 200, **options)
    with arrow_memory() as memory:
        assert len(read(path).images) == 200
        assert (memory.max_memory() or 0) < 6 * MEBIBYTE  # of 13


def test_more_columns_than_anybody_has_are_refused(tmp_path: Path) -> None:
    table = pa.table({f"c{number}": [0] for number in range(1001)})
    pq.write_table(table, tmp_path / "x")
    assert refusal(tmp_path / "x").code == "bad_table"


def test_a_footer_of_many_bytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.write(b"PAR1")
        file.truncate(40 * MEBIBYTE)
        file.seek(0, 2)
        file.write((32 * MEBIBYTE).to_bytes(4, "little") + b"PAR1")
    assert "footer" in str(refusal(path))


@pytest.mark.parametrize("position", range(4, 60, 4))
def test_a_damaged_header_of_a_page_is_a_damaged_table(tmp_path: Path, position: int) -> None:
    path = write(tmp_path / "x", [ZERO[0]] * 3, ["a"] * 3)
    data = bytearray(path.read_bytes())
    data[position : position + 4] = b"\xff" * 4
    path.write_bytes(data)
    try:
        found = contents(read(path))
    except ArchiveRefusedError as refused:
        found = []
        code = refused.code
    assert found or code in ("bad_table", "archive_bomb", "no_images")


def test_names_of_columns_are_quoted_short_and_without_controls(tmp_path: Path) -> None:
    names = ["a\0b", "\x1b]0;x\x07", "a" * 20_000 + "://" + ":" * 28_000, *(f"{'c' * 5000}{n}" for n in range(500))]
    pq.write_table(pa.table({name: [0] for name in names}), tmp_path / "x")
    assert refusal(tmp_path / "x").code == "bad_table"


def test_a_label_column_of_lists_is_refused_as_several_labels(tmp_path: Path) -> None:
    assert refusal(write(tmp_path / "x", [ZERO[0]], [[1, 2]])).code == "multi_label"


@pytest.mark.parametrize("label", [[{"a": 1}], [b"bytes"]])
def test_a_label_column_of_what_can_be_no_label_is_refused_by_its_type(tmp_path: Path, label: list[Any]) -> None:
    assert "numbers or text" in str(refusal(write(tmp_path / "x", [ZERO[0]], label)))


def test_a_table_is_closed_whatever_happens(tmp_path: Path) -> None:
    path = write(tmp_path / "x", [ZERO[0]], ["a"])
    with closing(ParquetTable(path, "x", ArchiveLimits())) as table:
        assert [[value.as_py() for value in row] for row in table.read_rows(["label", "image.bytes"])] == [
            ["a", ZERO[0]]
        ]
    with pytest.raises(ArchiveRefusedError):
        ParquetTable(path, "x", ArchiveLimits(max_members=0))
