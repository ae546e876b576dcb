"""What is in the trash can come back; what is purged was needed by nobody, and its bytes are free."""

import threading

import pytest

from contract.lineage import Lineage
from registry.aliases import Aliases
from registry.blobs import FileBlobStore
from registry.database import Database
from registry.errors import BlobMissingError, ConflictError, NotFoundError, VersionInUseError
from registry.jobs import Jobs
from registry.patches import Patches
from registry.retention import Garbage, Retention, collect_garbage
from registry.tables import VersionRow
from registry.versions import TermSpec, Versions
from tests.registry.clock import Clock
from tests.registry.rows import FINGERPRINT, add_base, add_task_vector, add_version, ready_dataset, request

DAY = 86_400.0


def _store(database: Database, blobs: FileBlobStore, content: bytes) -> str:
    sha256 = blobs.put_bytes(content)
    with database.write() as session:
        add_base(session)
        add_task_vector(session, sha256)
    return sha256


def _make(database: Database, *terms: str, parents: tuple[int, ...] = ()) -> int:
    with database.write() as session:
        Versions(session).ensure_base(ref="starter", fingerprint=FINGERPRINT, embed_dim=8, image_size=32)
        return (
            Versions(session)
            .register(
                name="v",
                base_fingerprint=FINGERPRINT,
                terms=[TermSpec(sha256, 1.0) for sha256 in terms],
                probe=[],
                lineage=Lineage(),
                parents=parents,
            )
            .id
        )


def _trash(database: Database, *version_ids: int) -> None:
    with database.write() as session:
        for version_id in version_ids:
            Versions(session).trash(version_id)


def _collect(database: Database, blobs: FileBlobStore, *, dry_run: bool = False) -> Garbage:
    return collect_garbage(database, blobs, 0.0, grace_seconds=0.0, dry_run=dry_run)


@pytest.fixture
def bare(database: Database) -> int:
    """The unpatched base, which comes first."""
    return _make(database)


def test_a_trashed_version_is_off_the_list_and_comes_back(database: Database, blobs: FileBlobStore, bare: int) -> None:
    version = _make(database, _store(database, blobs, b"tau"))
    _trash(database, version)
    with database.read() as session:
        assert [row.id for row in Versions(session).newest()] == [bare]
        assert [row.id for row in Versions(session).newest(trashed=True)] == [version]
        with pytest.raises(ConflictError, match="in the trash"):
            Versions(session).get_not_trashed(version)
    with database.write() as session:
        Versions(session).restore(version)
    with database.read() as session:
        assert [row.id for row in Versions(session).newest()] == [version, bare]
        assert Versions(session).newest(trashed=True) == []


def test_what_an_alias_names_and_the_bare_base_cannot_go(database: Database, blobs: FileBlobStore, bare: int) -> None:
    version = _make(database, _store(database, blobs, b"tau"))
    with database.write() as session:
        Aliases(session).move("canary", version, actor="a", reason="r")
    for version_id, why in ((version, "'canary'"), (bare, "unpatched base")):
        with pytest.raises(VersionInUseError, match=why):
            _trash(database, version_id)
    with database.write() as session:
        Aliases(session).delete("canary", actor="a", reason="r")
    _trash(database, version)


def test_an_alias_cannot_name_what_is_in_the_trash(database: Database, blobs: FileBlobStore, bare: int) -> None:
    version = _make(database, _store(database, blobs, b"tau"))
    _trash(database, version)
    with pytest.raises(ConflictError), database.write() as session:
        Aliases(session).move("canary", version, actor="a", reason="r")
    with database.read() as session:
        assert not Aliases(session).has_been("canary")


def test_a_dry_run_tells_what_would_go_and_changes_nothing(database: Database, blobs: FileBlobStore, bare: int) -> None:
    shared, own = _store(database, blobs, b"shared"), _store(database, blobs, b"own")
    _make(database, shared)
    gone = _make(database, shared, own)
    _trash(database, gone)
    told = _collect(database, blobs, dry_run=True)
    assert (told.versions, told.task_vectors, told.num_bytes, told.kept) == ((gone,), {own: 10}, 10, {})
    assert blobs.read(own) == b"own"
    assert _collect(database, blobs) == told
    with pytest.raises(BlobMissingError):
        blobs.read(own)
    assert blobs.read(shared) == b"shared"
    with database.read() as session:
        with pytest.raises(NotFoundError):
            Versions(session).get(gone)
        with pytest.raises(NotFoundError):
            Versions(session).task_vector(own)
    assert _collect(database, blobs) == Garbage((), {}, {})


def test_the_time_in_the_trash_and_the_age_of_a_task_vector_count(
    database: Database, blobs: FileBlobStore, bare: int, clock: Clock
) -> None:
    sha256 = blobs.put_bytes(b"tau")
    with database.write() as session:
        versions = Versions(session, clock)
        versions.add_task_vector(
            sha256=sha256, base_fingerprint=FINGERPRINT, num_bytes=3, relative_norm=0.1, job_id="job_1"
        )
        row = versions.register(
            name="v", base_fingerprint=FINGERPRINT, terms=[TermSpec(sha256, 1.0)], probe=[], lineage=Lineage()
        )
        versions.trash(row.id)

    def found(retention: float, grace: float) -> tuple[int, int]:
        with database.read() as session:
            garbage = Retention(session, clock).find(retention, grace)
        return len(garbage.versions), len(garbage.task_vectors)

    assert found(DAY, DAY) == (0, 0)
    clock.advance(DAY / 2)
    assert found(DAY / 4, DAY) == (1, 0)
    assert found(DAY / 4, DAY / 4) == (1, 1)
    assert found(DAY, DAY / 4) == (0, 0)


def test_a_version_that_another_was_made_from_stays_until_that_goes_too(
    database: Database, blobs: FileBlobStore, bare: int
) -> None:
    vector = _store(database, blobs, b"tau")
    parent = _make(database, vector)
    child = _make(database, vector, parents=(parent,))
    grandchild = _make(database, vector, parents=(child,))
    _trash(database, parent, child)
    told = _collect(database, blobs)
    assert told.versions == ()
    assert told.kept == {
        child: f"version {grandchild} was created from it",
        parent: f"version {child} was created from it",
    }
    _trash(database, grandchild)
    assert _collect(database, blobs).versions == (parent, child, grandchild)


def test_the_version_that_trained_a_task_vector_is_a_parent_of_whoever_uses_it(database: Database, bare: int) -> None:
    with database.write() as session:
        add_task_vector(session)
        trained = add_version(session, "job_1", (TermSpec("a" * 64, 1.0),)).id
        user = add_version(session, None, (TermSpec("a" * 64, 0.5),)).id
        assert Versions(session).parents_of([trained, user]) == {trained: [], user: [trained]}


def _finished_patch(database: Database, blobs: FileBlobStore, *contents: bytes) -> tuple[str, int, list[str], str]:
    """Id, version, task vectors and task of a patch whose version takes the first of its task vectors only."""
    with database.write() as session:
        add_base(session)
        task = ready_dataset(session, f"archive {contents[0]!r}").id
        patch = Patches(session).submit(request(task), "starter")
        lease = Jobs(session).lease(patch.job_id, "a test")
        assert lease is not None
        shas = [blobs.put_bytes(content) for content in contents]
        for sha256 in shas:
            Versions(session).add_task_vector(
                sha256=sha256, base_fingerprint=FINGERPRINT, num_bytes=1, relative_norm=0.1, job_id=patch.job_id
            )
        version = Versions(session).register(
            name="v",
            base_fingerprint=FINGERPRINT,
            terms=[TermSpec(shas[0], 1.0)],
            probe=[],
            lineage=Lineage(),
            job_id=patch.job_id,
            patch_id=patch.id,
        )
        Jobs(session).succeed(lease)
        return patch.id, version.id, shas, task


def test_task_vectors_of_a_patch_stay_as_long_as_a_version_of_it(
    database: Database, blobs: FileBlobStore, bare: int
) -> None:
    _, version, shas, _ = _finished_patch(database, blobs, b"used", b"left at zero")
    assert _collect(database, blobs).task_vectors == {}
    _trash(database, version)
    assert _collect(database, blobs).task_vectors.keys() == set(shas)


def test_task_vectors_of_a_training_that_is_being_repeated_stay(
    database: Database, blobs: FileBlobStore, bare: int
) -> None:
    _, version, shas, task = _finished_patch(database, blobs, b"tau")
    _trash(database, version)
    with database.write() as session:
        again = Patches(session).submit(request(task), "starter").job_id
    assert _collect(database, blobs).task_vectors == {}
    with database.write() as session:
        Jobs(session).request_cancel(again)
    assert _collect(database, blobs).task_vectors.keys() == set(shas)


def test_a_composition_and_a_collection_at_once_leave_no_version_without_its_task_vector(
    database: Database, blobs: FileBlobStore, bare: int
) -> None:
    for round_number in range(10):
        vector = _store(database, blobs, f"tau {round_number}".encode())
        start = threading.Barrier(2)
        made: list[int] = []

        def compose(vector: str = vector, start: threading.Barrier = start, made: list[int] = made) -> None:
            start.wait()
            try:
                with database.write() as session:
                    versions = Versions(session)
                    versions.hold_for_mix([TermSpec(vector, 1.0)], ())
                    made.append(
                        versions.register(
                            name="v",
                            base_fingerprint=FINGERPRINT,
                            terms=[TermSpec(vector, 1.0)],
                            probe=[],
                            lineage=Lineage(),
                        ).id
                    )
            except NotFoundError:
                pass

        thread = threading.Thread(target=compose)
        thread.start()
        start.wait()
        try:
            freed = _collect(database, blobs).task_vectors
        except ConflictError:
            freed = {}
        thread.join()
        assert (vector in freed) != bool(made)
        if made:
            assert blobs.read(vector)


def test_tags_are_replaced_and_found(database: Database, bare: int) -> None:
    with database.write() as session:
        versions = Versions(session)
        second = add_version(session).id
        versions.relabel(bare, tags=["eu", "reviewed"])
        versions.relabel(second, name="better", tags=["eu"])
    with database.read() as session:
        versions = Versions(session)
        assert versions.tags_of([bare, second]) == {bare: ["eu", "reviewed"], second: ["eu"]}
        assert [row.id for row in versions.newest(tags=["eu"])] == [second, bare]
        assert [row.id for row in versions.newest(tags=["eu", "reviewed"])] == [bare]
        assert versions.newest(tags=["us"]) == []
        assert versions.get(second).name == "better"
    with database.write() as session:
        Versions(session).relabel(bare, tags=[])
        assert Versions(session).tags_of([bare]) == {bare: []}


def test_a_purged_version_takes_its_tags_along(database: Database, blobs: FileBlobStore, bare: int) -> None:
    version = _make(database, _store(database, blobs, b"tau"))
    with database.write() as session:
        Versions(session).relabel(version, tags=["eu"])
    _trash(database, version)
    _collect(database, blobs)
    with database.read() as session:
        assert session.get(VersionRow, version) is None
        assert Versions(session).tags_of([version]) == {version: []}
