"""Shards: what is written is read back in order, the same rows are the same bytes, and others can read them."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.shards import read_image, read_index, read_shard, write_shard

CLASSNAMES = ("cat", "dog", "réd panda")
ROWS = st.lists(st.tuples(st.binary(max_size=20), st.text(max_size=8), st.integers(0, 2)), max_size=30)


@given(rows=ROWS)
def test_rows_come_back_in_order(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[bytes, str, int]]) -> None:
    path = tmp_path_factory.getbasetemp() / "law.parquet"
    assert write_shard(path, rows, CLASSNAMES) == len(rows)
    assert list(read_shard(path)) == [(data, label) for data, _, label in rows]


@pytest.mark.parametrize("num_rows", [255, 256, 257, 700])
def test_order_is_kept_over_row_groups(tmp_path: Path, num_rows: int) -> None:
    rows = [(str(number).encode(), f"{number}.jpg", number % 3) for number in range(num_rows)]
    write_shard(tmp_path / "shard", iter(rows), CLASSNAMES)
    with pq.ParquetFile(tmp_path / "shard") as file:
        assert file.num_row_groups == -(-num_rows // 256)
    assert list(read_shard(tmp_path / "shard")) == [(data, label) for data, _, label in rows]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [(b"x" * 1000, f"{number}.jpg", number % 3) for number in range(300)]
    for name in ("one", "two"):
        write_shard(tmp_path / name, iter(rows), CLASSNAMES)
    write_shard(tmp_path / "other", rows[::-1], CLASSNAMES)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").read_bytes() != (tmp_path / "other").read_bytes()


def test_the_schema_tells_the_features_as_hugging_face_writes_them(tmp_path: Path) -> None:
    write_shard(tmp_path / "shard", [(b"bytes", "cat/1.jpg", 2)], CLASSNAMES)
    schema = pq.read_schema(tmp_path / "shard")
    assert json.loads(schema.metadata[b"huggingface"]) == {
        "info": {
            "features": {
                "image": {"_type": "Image"},
                "label": {"_type": "ClassLabel", "names": ["cat", "dog", "réd panda"]},
            }
        }
    }
    assert pq.read_table(tmp_path / "shard").to_pylist() == [
        {"image": {"bytes": b"bytes", "path": "cat/1.jpg"}, "label": 2}
    ]


def test_a_shard_of_nothing_is_a_shard(tmp_path: Path) -> None:
    assert write_shard(tmp_path / "shard", [], CLASSNAMES) == 0
    assert list(read_shard(tmp_path / "shard")) == []


def test_an_image_is_read_without_the_other_groups_and_names_without_images(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    rows = [(b"%05d" % number * 20, f"{number}.jpg", number % 3) for number in range(700)]
    write_shard(path, iter(rows), CLASSNAMES)
    for row in (0, 255, 256, 511, 512, 699):
        assert read_image(path, row) == rows[row][0]
    with pytest.raises(IndexError):
        read_image(path, 700)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"00300" * 20, bytes(100)))  # of the second group
    assert read_image(path, 0) == rows[0][0]
    assert read_image(path, 300) == bytes(100)
    begin, end = data.index(b"00000" * 20), data.index(b"00254" * 20)
    path.write_bytes(data[:begin] + bytes(end - begin) + data[end:])
    assert read_image(path, 699) == rows[699][0]
    assert read_index(path).to_pylist() == [{"name": name, "label": label} for _, name, label in rows]


def test_a_shard_of_nothing_has_an_index(tmp_path: Path) -> None:
    write_shard(tmp_path / "shard", [], CLASSNAMES)
    assert len(read_index(tmp_path / "shard")) == 0
