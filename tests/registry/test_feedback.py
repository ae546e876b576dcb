"""Feedback on both engines: found again by what it shows, counted, marked, and erased with its blobs."""

from datetime import timedelta

import pytest

from contract.feedback import FeedbackSource, FeedbackState
from registry.blobs import FileBlobStore
from registry.database import Database
from registry.errors import RequestRefusedError
from registry.feedback import Feedback, FeedbackFilter, NewFeedback, erase
from registry.retention import collect_garbage
from registry.usage import Usage
from tests.registry.clock import Clock
from tests.registry.rows import submit_dataset

MOST = 100


def given(picture: str = "a", **fields: object) -> NewFeedback:
    return NewFeedback(image_sha256=picture * 64, picture_sha256=picture * 64, num_bytes=10, **fields)  # type: ignore[arg-type]


def test_what_shows_the_same_is_found_again_per_owner_and_label(database: Database) -> None:
    with database.write() as session:
        feedback = Feedback(session)
        first, is_new = feedback.add(given(label="cat", owner="me"), MOST)
        assert is_new
        assert feedback.add(given(label="cat", owner="me", note="again"), MOST) == (first, False)
        for other in (given(label="dog", owner="me"), given(owner="me"), given(label="cat"), given("b", label="cat")):
            assert feedback.add(other, MOST)[1]
        feedback.change(first.id, state=FeedbackState.DISMISSED)
        assert feedback.add(given(label="cat", owner="me"), MOST)[1]


def test_only_open_feedback_of_an_owner_counts_towards_the_limit(database: Database) -> None:
    with database.write() as session:
        feedback = Feedback(session)
        first, _ = feedback.add(given("a", owner="me"), 1)
        with pytest.raises(RequestRefusedError) as caught:
            feedback.add(given("b", owner="me"), 1)
        assert caught.value.code == "too_much_feedback"
        assert feedback.add(given("b", owner="you"), 1)[1]
        feedback.change(first.id, state=FeedbackState.ACCEPTED)
        assert feedback.add(given("b", owner="me"), 1)[1]
        assert Usage(session).stored_bytes("me") == 20


def test_only_undecided_and_accepted_feedback_is_marked_as_used(database: Database) -> None:
    with database.write() as session:
        feedback = Feedback(session)
        ids = [feedback.add(given(picture), MOST)[0].id for picture in "abcd"]
        feedback.change(ids[1], state=FeedbackState.DISMISSED)
        feedback.mark_used(ids[:3], "ds_1")
    with database.read() as session:
        rows = [Feedback(session).get(each) for each in ids]
        assert [row.state for row in rows] == ["used", "dismissed", "used", "open"]
        assert [row.dataset_id for row in rows] == ["ds_1", None, "ds_1", None]
        assert set(Feedback(session).ids(FeedbackFilter((FeedbackState.USED,)), 9)) == {ids[0], ids[2]}


def test_a_kept_image_expires_unless_somebody_labels_it(database: Database, clock: Clock) -> None:
    with database.write() as session:
        feedback, soon = Feedback(session, clock), clock() + timedelta(days=1)
        sampled = FeedbackSource.SAMPLED
        ids = [feedback.add(given(each, source=sampled, expires_at=soon), MOST)[0].id for each in "ab"]
        feedback.change(ids[0], label="cat")
        assert feedback.expired(9) == []
        clock.advance(86_400)
        assert feedback.expired(9) == [ids[1]]


def test_a_blob_goes_with_the_last_that_refers_to_it(database: Database, blobs: FileBlobStore) -> None:
    sha256 = blobs.put_bytes(b"a picture")
    with database.write() as session:
        rows = [NewFeedback(sha256, str(number) * 64, 9) for number in range(3)]
        ids = [Feedback(session).add(row, MOST)[0].id for row in rows]
        Feedback(session).mark_used(ids[:1], "ds_1")
    erased = erase(database, blobs, [*ids[:2], "fb_nothing"])
    assert (erased.num_rows, erased.num_files, erased.dataset_ids) == (2, 0, {"ds_1"})
    collect_garbage(database, blobs, 0, grace_seconds=0)
    assert blobs.read(sha256) == b"a picture"
    erased = erase(database, blobs, ids)
    assert (erased.num_rows, erased.num_files) == (1, 1)
    assert blobs.stat(sha256) is None


def test_a_blob_that_a_data_set_names_stays(database: Database, blobs: FileBlobStore) -> None:
    sha256 = blobs.put_bytes(b"a file that is a picture and an archive")
    with database.write() as session:
        dataset = submit_dataset(session, sha256)
        identifier = Feedback(session).add(NewFeedback(sha256, "a" * 64, 9), MOST)[0].id
    assert erase(database, blobs, [identifier]).num_files == 0
    assert blobs.stat(sha256) is not None
    with database.read() as session:
        assert dataset.archive_sha256 == sha256
