"""What is known about weights is found by their fingerprint, and limits along the whole ancestry; on both engines."""

from typing import Any

from sqlalchemy.orm import Session

from contract.evaluation import Evaluation
from contract.evaluations import Measurement
from contract.lineage import Lineage
from contract.scores import SplitScore
from registry.database import Database
from registry.evidence import EvidenceReader
from registry.measurements import Measurements
from registry.tables import VersionRow
from registry.versions import Versions
from tests.registry.rows import FINGERPRINT, add_base

SCORE = {"correct": 9, "total": 10}


def _evaluation(name: str, limit: float | None = None, role: str = "supported") -> Evaluation:
    task = {"dataset_id": f"ds_{name}", "name": name, "role": role, "zero_shot": SCORE, "patched": SCORE}
    return Evaluation.of_stored({"split": "test", "max_supported_drop": limit, "tasks": [task]})


def _add(session: Session, weights: str, parents: tuple[int, ...] = (), **fields: Any) -> VersionRow:
    return Versions(session).register(
        name="v",
        base_fingerprint=FINGERPRINT,
        terms=[],
        probe=[],
        lineage=Lineage(),
        parents=parents,
        weights_fingerprint=weights * 64,
        **fields,
    )


def _limits(session: Session, version: VersionRow) -> list[tuple[str, float | None]]:
    others = EvidenceReader(session).of_version(version.id).others
    return sorted((each.tasks[0].name, each.limit_of(each.tasks[0].dataset_id)) for each in others)


def test_limits_come_along_the_whole_ancestry_and_from_versions_of_the_same_weights(database: Database) -> None:
    with database.write() as session:
        add_base(session)
        _add(session, "0")
        first = _add(session, "1", evaluation=_evaluation("food", 1))
        second = _add(session, "2", (first.id,))
        _add(session, "2", evaluation=_evaluation("twin of an ancestor", 2))
        third = _add(session, "3", (second.id,), evaluation=_evaluation("own", 3))
        _add(session, "3", evaluation=_evaluation("twin", 4))
        _add(session, "4", evaluation=_evaluation("stranger", 5))
        assert _limits(session, first) == []
        assert _limits(session, second) == [("food", 1), ("twin of an ancestor", 2)]
        assert _limits(session, third) == [("food", 1), ("twin", 4), ("twin of an ancestor", 2)]
        by_a_job = _add(session, "5", (third.id,), job_id="job_1", evaluation=_evaluation("own", 6))
        assert _limits(session, by_a_job) == []
        evidence = EvidenceReader(session).of_version(third.id)
        assert [(each.name, each.version_id) for each in evidence.measurements] == [
            ("own", third.id),
            ("twin", third.id + 1),
        ]
        assert evidence.is_base is False


def test_measurements_on_request_count_with_the_data_sets_own_labels_where_the_base_was_measured(
    database: Database,
) -> None:
    with database.write() as session:
        add_base(session)
        bare, version = _add(session, "0"), _add(session, "1", evaluation=_evaluation("digits", role="patching"))
        for dataset_id, head_id, is_own, who in (
            ("ds_food", "ls_a", True, (bare, version)),
            ("ds_nature", "ls_a", True, (version,)),
            ("ds_travel", "ls_b", False, (bare, version)),
            ("ds_digits", "ls_a", True, (bare, version)),
        ):
            for each in who:
                assert each.weights_fingerprint is not None
                Measurements(session).add(
                    weights_fingerprint=each.weights_fingerprint,
                    dataset_id=dataset_id,
                    split="test",
                    head_id=head_id,
                    is_own_head=is_own,
                    num_images=10,
                    result=Measurement(score=SplitScore.of_stored(SCORE), macro_f1=1.0, classes=(), confusion=()),
                    predictions_sha256=each.weights_fingerprint,
                    num_bytes=1,
                    owner=None,
                )
        found = EvidenceReader(session).of_version(version.id).measurements
        own, *requested = ((each.dataset_id, each.role, each.version_id) for each in found)
        assert own == ("ds_digits", "patching", version.id)
        assert sorted(requested) == [("ds_digits", "patching", None), ("ds_food", "supported", None)]
        assert {each.predictions for each in found[1:]} == {("0" * 64, "1" * 64)}
        new = EvidenceReader(session).of_new(FINGERPRINT, "1" * 64, _evaluation("nature", 1))
        assert [each.dataset_id for each in new.measurements[:2]] == ["ds_nature", "ds_digits"]
        assert EvidenceReader(session).of_version(bare.id).is_base
