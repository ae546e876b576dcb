"""The words of a job's life."""

from contract.jobs import JobStatus


def test_three_states_are_final() -> None:
    assert {status for status in JobStatus if status.ended} == {"succeeded", "failed", "cancelled"}
