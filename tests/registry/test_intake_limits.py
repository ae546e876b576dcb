"""Whatever names, labels, tables and rows an upload holds: what is kept and told of them is short and can be shown."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from registry.archives import ArchiveLimits
from registry.errors import ArchiveRefusedError, RequestRefusedError
from registry.intake.classnames import name_classes
from registry.intake.plan import Plan
from registry.intake.rejects import MAX_FILES, MAX_KINDS, Rejects
from registry.intake.tables import read_csv
from tests.registry.uploads import ONE, ZERO, pack, read, tar_bytes

LIMITS = ArchiveLimits(max_classes=5, max_classname_characters=600)


def refusal(path: Path, limits: ArchiveLimits | None = None) -> ArchiveRefusedError:
    with pytest.raises(ArchiveRefusedError) as refused:
        read(path, limits=limits)
    assert len(str(refused.value)) < 2500
    assert str(refused.value).isprintable()
    return refused.value


# -- Classes, in every layout ---------------------------------------------------------------------------------------


def of_folders(path: Path, name: str) -> Path:
    return pack(path, {f"{name}/1.png": ZERO[0], "dog/1.png": ONE[0]})


def of_parquet(path: Path, name: str) -> Path:
    features = {"label": {"_type": "ClassLabel", "names": [name, "dog"]}}
    table = pa.table({"image": [{"bytes": ZERO[0]}, {"bytes": ONE[0]}], "label": [0, 1]})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), path)
    return path


def of_classnames_file(path: Path, name: str) -> Path:
    members = {"a.png": ZERO[0], "a.cls": b"0", "b.png": ONE[0], "b.cls": b"1"}
    path.write_bytes(tar_bytes({**members, "classnames.txt": f"{name}\ndog\n".encode()}))
    return path


def of_table(path: Path, name: str) -> Path:
    rows = [{"file_name": "a.png", "label": name}, {"file_name": "b.png", "label": "dog"}]
    text = "\n".join(json.dumps(row) for row in rows)
    return pack(path, {"metadata.jsonl": text.encode(), "a.png": ZERO[0], "b.png": ONE[0]})


def of_label_files(path: Path, name: str) -> Path:
    members = {"a.png": ZERO[0], "a.txt": name.encode(), "b.png": ONE[0], "b.txt": b"dog"}
    path.write_bytes(tar_bytes(members))
    return path


Make = Callable[[Path, str], Path]
DECLARED: list[Make] = [of_folders, of_parquet, of_classnames_file]
BY_ROW: list[Make] = [of_table, of_label_files]
BAD = ["\u202egod", "a\u200bb", "\ue000", "\u2066x\u2069", "a\ufeffb"]


@pytest.mark.parametrize("make", [*DECLARED, *BY_ROW])
@pytest.mark.parametrize("name", ["cat", "ねこ", "gato montés", "a\u2019b", "👩\u200d🚀"])
def test_a_name_that_people_use_is_kept_in_every_layout(tmp_path: Path, make: Make, name: str) -> None:
    plan = read(make(tmp_path / "x", name))
    assert name in {*plan.classes, *dict(plan.display_names).values()}


@pytest.mark.parametrize("make", DECLARED)
@pytest.mark.parametrize("name", [*BAD, "x" * 201])
def test_a_name_that_cannot_be_shown_refuses_an_upload_that_declares_it(tmp_path: Path, make: Make, name: str) -> None:
    assert refusal(make(tmp_path / "x", name)).code == "bad_classname"


@pytest.mark.parametrize("name", ["", "a\0b", "\x1b]0;x\x07", "\x9b2J", "a\nb", "\u2028"])
def test_names_of_a_parquet_schema_follow_the_rule_that_archives_have(tmp_path: Path, name: str) -> None:
    assert refusal(of_parquet(tmp_path / "x", name)).code == "bad_classname"


@pytest.mark.parametrize("make", BY_ROW)
@pytest.mark.parametrize("name", [*BAD, "x" * 201, "a\0b", "\x1b[2J", "x" * 60_000])
def test_a_label_that_cannot_be_shown_leaves_its_row_out(tmp_path: Path, make: Make, name: str) -> None:
    plan = read(make(tmp_path / "x", name))
    assert plan.classes == ("dog",)
    assert all(entry["reason"].isprintable() and len(entry["reason"]) <= 200 for entry in plan.rejected)


@pytest.mark.parametrize(
    "members",
    [
        {f"{number}/1.png": ZERO[0] for number in range(6)},
        {f"{number}{'x' * 190}/1.png": ZERO[0] for number in range(4)},
    ],
)
def test_folders_have_the_same_limits_of_classes_as_tables(tmp_path: Path, members: dict[str, bytes]) -> None:
    assert refusal(pack(tmp_path / "x", members), LIMITS).code == "too_many_classes"


def test_an_error_that_names_classes_is_short() -> None:
    names = [f"{number:0199}" for number in range(1000)]
    with pytest.raises(RequestRefusedError) as unknown:
        name_classes(names, {}, {"y" * 200: "z"})
    with pytest.raises(RequestRefusedError) as same:
        name_classes(names, {}, dict.fromkeys(names, "x" * 200))
    assert max(len(str(unknown.value)), len(str(same.value))) < 1000


# -- Text files and tables ------------------------------------------------------------------------------------------


def shard(path: Path, name: str, data: bytes) -> Path:
    path.write_bytes(tar_bytes({"a.png": ZERO[0], "a.cls": b"0", name: data}))
    return path


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("classnames.txt", b"a\n" * 30_001, "bad_table"),
        ("classnames.txt", b"a" * (9 << 20), "file_too_large"),
        ("zeroshot_classification_templates.txt", b"a {c}\n" * 201, "bad_table"),
        ("zeroshot_classification_templates.txt", b"a {c}" + b"x" * 500, "bad_template"),
        ("zeroshot_classification_templates.txt", b"a {c}\x1b[2J", "bad_template"),
        ("zeroshot_classification_templates.txt", b"x" * 100_000, "bad_template"),
    ],
)
def test_the_files_beside_shards_have_limits(tmp_path: Path, name: str, data: bytes, code: str) -> None:
    assert refusal(shard(tmp_path / "x", name, data)).code == code


def table_of(path: Path, name: str, data: bytes) -> Path:
    return pack(path, {name: data, "a.png": ZERO[0], "b.png": ONE[0]})


LONG_ROWS = {
    "a line without an end": ("metadata.csv", b"file_name,label\na.png," + b"x," * (1 << 20)),
    "a row of many lines": ("metadata.csv", b"file_name,label\n" + b'"a\nb",' * 200_000),
    "a field without an end": ("metadata.csv", b'file_name,label\n"' + b"x\n" * 200_000),
    "a thousand columns": ("metadata.csv", b"file_name,label" + b",x" * 1000 + b"\na.png,b\n"),
    "a header without an end": ("metadata.csv", b"file_name,label" + b"," * (2 << 20)),
    "a JSON line without an end": ("metadata.jsonl", b'{"file_name": "' + b"x" * (2 << 20) + b'"}'),
    "JSON that is deep": ("metadata.jsonl", b'{"file_name": ' + b"[" * 100_000),
    "a number of many digits": ("metadata.jsonl", b'{"file_name": "a.png", "label": ' + b"1" * 100_000 + b"}"),
}


@pytest.mark.parametrize(("name", "data"), LONG_ROWS.values(), ids=LONG_ROWS.keys())
def test_a_row_of_a_table_has_limits(tmp_path: Path, name: str, data: bytes) -> None:
    path = table_of(tmp_path / "x", name, data)
    tracemalloc.start()
    try:
        assert refusal(path).code == "bad_table"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 << 20


def test_rows_of_a_wide_table_keep_what_was_asked_for(tmp_path: Path) -> None:
    wide = b"file_name,label" + b",x" * 990 + b"\n" + b"a.png,zero\n" + b"b\n" * 1000 + b"," * 990 + b"\n"
    (tmp_path / "x").write_bytes(wide)
    rows = [row for _, row in read_csv(tmp_path / "x", "x", ("file_name", "label", "split"))]
    assert len(rows) == 1002
    assert {tuple(row) for row in rows} == {("file_name", "label")}
    assert rows[:2] == [{"file_name": "a.png", "label": "zero"}, {"file_name": "b", "label": None}]


def test_metadata_tables_have_one_budget_together(tmp_path: Path) -> None:
    table = b"file_name,label\n" + b"a.png,zero\n" * 50
    members = {f"{number}/metadata.csv": table for number in range(4)} | {"1/a.png": ZERO[0]}
    path = pack(tmp_path / "x", members)
    assert read(path).classes == ("zero",)
    assert refusal(path, ArchiveLimits(max_table_bytes=3 * len(table))).code == "bad_table"
    assert refusal(path, ArchiveLimits(max_members=150)).code == "bad_table"


def test_values_that_are_no_names_are_not_kept(tmp_path: Path) -> None:
    rows = [{"file_name": "a.png", "label": ["x"] * 99}, {"file_name": ["a"] * 99, "label": "y"}]
    rows += [{"file_name": "b.png", "label": "zero", "caption": "c" * 9999}, {"file_name": "p" * 9999, "label": "z"}]
    plan = read(table_of(tmp_path / "x", "metadata.jsonl", "\n".join(map(json.dumps, rows)).encode()))
    assert [entry["reason"][:28] for entry in plan.rejected][:2] == ["has a label of type list", "lists no file"]
    assert [image.label for image in plan.images] == ["zero"]


# -- What is left out -----------------------------------------------------------------------------------------------


def num_rejected(plan: Plan) -> int:
    return sum(entry.get("count", 1) for entry in plan.rejected)


def test_rows_that_cannot_be_used_are_counted_not_listed(tmp_path: Path) -> None:
    images = [{"bytes": ZERO[0]}] + [None] * 20_000 + [{"bytes": ZERO[1]}] * 3
    labels = ["a"] * 20_001 + [None, "\0", "\0"]
    pq.write_table(pa.table({"image": images, "label": labels}), tmp_path / "data")
    path = pack(tmp_path / "x", {"n" * 200 + "/" + "m" * 200 + ".parquet": (tmp_path / "data").read_bytes()})
    assert path.stat().st_size < 30_000
    plan = read(path)
    assert num_rejected(plan) == 20_003
    assert len(json.dumps(plan.rejected)) < 50_000
    assert [entry["reason"] for entry in plan.rejected[MAX_FILES:]] == [
        "has no image bytes",
        "has no label",
        "has a label that has a control, invisible or text-direction character (U+… at position …)",
    ]


def test_reasons_are_counted_without_their_particulars_and_their_kinds_are_few() -> None:
    rejects = Rejects()
    for number in range(1000):
        rejects.add(f"{number}.png", f"lists 'file {number}', which is not in the archive")
    for number in range(1000):
        rejects.add("x" * 5000, f"reason {chr(97 + number % 26)}{chr(97 + number // 26)}")
    told = rejects.as_json()
    assert len(told) == MAX_FILES + MAX_KINDS + 1
    assert told[MAX_FILES] == {"file": "100.png", "reason": "lists …, which is not in the archive", "count": 900}
    assert sum(entry.get("count", 1) for entry in told) == 2000
    assert max(len(entry["file"]) + len(entry["reason"]) for entry in told) <= 400
    assert len(rejects.tell()) < 700
