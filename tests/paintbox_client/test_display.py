"""What people call things reaches a terminal as text only."""

import io
import json
import re
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from paintbox_client import ApiError, Client, InputError
from paintbox_client.cleaning import clean
from paintbox_client.display import print_error, print_json, print_note, print_table, print_text
from paintbox_client.version_calls import _unpack
from registry.tables import DatasetRow, LabelSetRow, VersionRow
from tests.app.world import add_ready_dataset
from tests.paintbox_client.conftest import Served
from tests.paintbox_client.relay import Relay, answer
from tests.paintbox_client.test_cli import paintbox

HOSTILE = "[red]n\x1b]52;c;eA==\x07\x1b[2J\x9b31m\u202ereversed\u2066\r\n\x00\x7f\u200f\u2028:skull:[/]"
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u061c\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

texts = st.text(st.characters(codec=None) | st.sampled_from(HOSTILE), max_size=40)


@given(texts)
def test_cleaned_text_holds_no_character_that_commands_a_terminal_and_keeps_all_others(text: str) -> None:
    shown = clean(text)
    assert not _FORBIDDEN.search(shown)
    assert "\n" not in shown
    assert len(shown) >= len(text)
    assert (shown == text) == (not any(clean(each) != each for each in text))
    assert clean(shown) == shown


@pytest.mark.parametrize("text", ["", "naïve café", "数字", "🧑‍🔬", "می‌خواهم", "a b"])
def test_ordinary_names_of_any_script_stay_as_they_are(text: str) -> None:
    assert clean(text) == text


@given(st.recursive(texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)))
def test_json_says_the_same_without_commanding_a_terminal(value: object) -> None:
    written = io.StringIO()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.stdout", written)
        print_json(value)
    assert not _FORBIDDEN.search(written.getvalue())
    assert json.loads(written.getvalue()) == value


def test_every_way_to_show_something_cleans_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_text(HOSTILE)
    print_note(HOSTILE)
    print_error(str(ApiError(422, "x", HOSTILE, HOSTILE, [HOSTILE])), HOSTILE)
    print_table(("A", HOSTILE), [(HOSTILE, 1)])
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert not _FORBIDDEN.search(text)
        assert "[red]n" in text
        assert ":skull:" in text
    assert len(shown.out.splitlines()) == 4  # the text keeps its line end, the table's row does not


def test_hostile_names_of_every_kind_of_thing_are_shown_as_text(served: Served) -> None:
    dataset = add_ready_dataset(served.world.services, ["zero", "one"])
    label_set = served.client.create_label_set(["a", "b"])["id"]
    version = served.add_version()
    with served.world.services.database.write() as session:  # as older releases took them
        for row, identifier in ((DatasetRow, dataset), (LabelSetRow, label_set), (VersionRow, version)):
            session.execute(update(row).where(row.id == identifier).values(name=HOSTILE))
    for command in (("versions",), ("versions", "--json"), ("datasets",), ("dataset", dataset), ("label-sets", "list")):
        done = paintbox("--url", served.url, *command)
        assert done.returncode == 0, done.stderr
        assert not _FORBIDDEN.search(done.stdout + done.stderr), command
        assert "[red]n" in done.stdout


def test_what_a_stranger_answers_is_shown_as_text() -> None:
    problem = json.dumps({"code": HOSTILE, "detail": HOSTILE, "next": HOSTILE, "errors": [{"location": HOSTILE}]})
    with Relay("http://127.0.0.1:9") as relay:
        relay.answers += [answer(418, problem)]
        done = paintbox("--url", relay.url, "jobs")
    assert done.returncode == 1
    assert not _FORBIDDEN.search(done.stdout + done.stderr)


def test_an_output_that_cannot_hold_a_name_gets_an_escape(served: Served) -> None:
    served.client.create_label_set(["c", "d"], name="数字")
    done = paintbox("--url", served.url, "label-sets", "list", PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr
    assert "\\u6570" in done.stdout


def tar_of(*members: tarfile.TarInfo) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    stream.seek(0)
    return stream


@pytest.mark.parametrize(
    "name",
    ["..", "x/..", "x/..\\..\\evil", "C:evil", "x/.bashrc", "x/a\x1b[2J", "x/a b", "x/" + "a" * 101, "x/\u202egnp.exe"],
)
def test_an_export_with_a_name_that_is_not_plain_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a regular file") as caught:
        _unpack(tar_of(tarfile.TarInfo(name)), tmp_path / "out")
    assert not _FORBIDDEN.search(str(caught.value))
    assert list(tmp_path.iterdir()) == []


def test_an_export_lands_in_its_folder_whatever_its_paths_say(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    members = [tarfile.TarInfo(name) for name in ("../../a", "/etc/b", "version-1/../c.safetensors")]
    written = _unpack(tar_of(*members), tmp_path / "out")
    assert {path.parent for path in written} == {tmp_path / "out"}
    assert sorted(path.name for path in written) == ["a", "b", "c.safetensors"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_an_export_with_anything_but_files_is_refused(kind: bytes, tmp_path: Path) -> None:
    member = tarfile.TarInfo("x/link")
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(InputError):
        _unpack(tar_of(member), tmp_path)


def test_an_export_that_is_no_tar_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        _unpack(io.BytesIO(b"<html>" * 1000), tmp_path)


def test_an_id_that_is_no_part_of_an_address_is_refused(served: Served) -> None:
    with Client(served.url) as client, pytest.raises(InputError, match="Invalid path"):
        client.job("a\x1b[2J")
