import io
from collections import Counter

from PIL import Image

from paintbox_client.archives import write_archive
from paintbox_demo.digits import archive_members, held_out, load_scans


def test_every_scan_is_in_exactly_one_split() -> None:
    scans = load_scans()
    assert sorted(scan.index for scan in scans) == list(range(1797))
    sizes = Counter(scan.split for scan in scans)
    assert sizes == {"train": 1078, "val": 359, "test": 360}


def test_every_split_holds_every_digit_in_proportion() -> None:
    counts = Counter((scan.split, scan.digit) for scan in load_scans())
    assert all(102 <= counts["train", digit] <= 110 for digit in range(10))
    assert all(34 <= counts[split, digit] <= 37 for digit in range(10) for split in ("val", "test"))


def test_the_archive_has_the_same_bytes_every_time() -> None:
    first, second = io.BytesIO(), io.BytesIO()
    assert write_archive(first, archive_members()) == 1797
    write_archive(second, archive_members())
    assert first.getvalue() == second.getvalue()


def test_a_scan_is_an_8_by_8_picture_from_black_to_white() -> None:
    pictures = [Image.open(io.BytesIO(scan.png)) for scan in load_scans()[:50]]
    assert {(picture.size, picture.mode) for picture in pictures} == {((8, 8), "L")}
    assert min(picture.getextrema()[0] for picture in pictures) == 0
    assert max(picture.getextrema()[1] for picture in pictures) == 255


def test_the_shown_scans_were_never_trained_on() -> None:
    shown = held_out((2, 5, 7))
    assert [scan.digit for scan in shown] == [2, 5, 7]
    assert {scan.split for scan in shown} == {"test"}
