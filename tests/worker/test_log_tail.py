"""What is kept of a trainer's log: little, and nothing secret."""

import time
from pathlib import Path

import pytest

from worker.log_tail import MAX_BYTES, MAX_LINES, find_secrets, read_tail


def tail(path: Path, text: str, start: int = 0, secrets: frozenset[str] = frozenset()) -> str:
    path.write_bytes(text.encode())
    return read_tail(path, start, secrets)


def test_only_the_last_lines_of_this_attempt_are_kept(tmp_path: Path) -> None:
    lines = [f"line {number}" for number in range(300)]
    kept = tail(tmp_path / "log", "\n".join(lines)).split("\n")
    assert kept == lines[-MAX_LINES:]
    before = "an earlier attempt\n"
    assert tail(tmp_path / "log", before + "this one\n", start=len(before)) == "this one"
    assert tail(tmp_path / "log", "") == ""


def test_long_lines_are_cut_at_a_bounded_number_of_bytes(tmp_path: Path) -> None:
    kept = tail(tmp_path / "log", "é" * 1_000_000 + "end")
    assert len(kept.encode()) <= MAX_BYTES
    assert kept.endswith("éend")


def test_secrets_and_passwords_in_urls_are_not_told(tmp_path: Path) -> None:
    environment = {
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG",
        "PAINTBOX_API_KEY": "pb_0123456789abcdef",
        "HOME": "/home/me",
        "A_KEY": "short",
    }
    secrets = find_secrets(environment, "postgresql+psycopg://me:p%40ssword@db/x", "sqlite:////x.db", "no url at all")
    assert secrets == {"wJalrXUtnFEMI/K7MDENG", "pb_0123456789abcdef", "p@ssword"}
    text = "sent wJalrXUtnFEMI/K7MDENG and pb_0123456789abcdef, p@ssword; see https://me:other@host/path in /home/me"
    kept = tail(tmp_path / "log", text, secrets=secrets)
    assert kept == "sent *** and ***, ***; see https://***@host/path in /home/me"


def test_bytes_that_no_database_or_terminal_should_see_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"a\x00b\x1b[31mc\tand \xff\n")
    assert read_tail(tmp_path / "log", 0, ()) == "ab[31mc\tand \N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("text", ["\x9b31m", "\u202e", "\u2028", "\x85", "\x1b]52;c;YQ==\x07", "\u2066"])
def test_no_spelling_of_a_control_is_kept(tmp_path: Path, text: str) -> None:
    kept = tail(tmp_path / "log", f"a{text}b\tc")
    assert kept.replace("\t", "").isprintable()
    assert kept.startswith("a")
    assert kept.endswith("b\tc")


@pytest.mark.parametrize(
    "url", ["https://me:a@b@c@host/x", "https://me:@host/x", "https://:secret@host/x", "s3+tls://me:sec:ret@host/x"]
)
def test_what_stands_before_the_host_of_a_url_is_hidden_whatever_it_holds(tmp_path: Path, url: str) -> None:
    assert tail(tmp_path / "log", url) == f"{url.partition('://')[0]}://***@host/x"


@pytest.mark.parametrize(
    "text",
    ["a" * 20_000 + "://" + ":" * 28_000, "a://:" * 12_000, "a" * 60_000, "://" * 20_000, ("a:" * 9 + "//") * 3000],
)
def test_the_time_that_the_filter_takes_grows_with_the_text_and_no_faster(tmp_path: Path, text: str) -> None:
    start = time.process_time()
    tail(tmp_path / "log", text)
    assert time.process_time() - start < 5  # the first one took hours
