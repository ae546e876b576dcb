"""How many bytes an owner's things take."""

from __future__ import annotations

from sqlalchemy import func, select

from contract.feedback import FeedbackSource
from registry.repository import Repository
from registry.tables import DatasetRow, FeedbackRow, JobRow, LabelSetRow, MeasurementRow, TaskVectorRow


class Usage(Repository):
    """Stored bytes within one transaction."""

    def stored_bytes(self, owner: str) -> int:
        """Return the size in bytes of an owner's data sets, label sets, task vectors, predictions and feedback.

        Data sets that share blobs, such as a derived one and its source, are counted once.
        """
        blobs: dict[str, int] = {}
        sizes = select(DatasetRow.blob_bytes).where(DatasetRow.owner == owner, DatasetRow.blob_bytes.is_not(None))
        for each in self._session.scalars(sizes):
            blobs |= each or {}
        vectors = select(func.sum(TaskVectorRow.num_bytes)).join(JobRow, JobRow.id == TaskVectorRow.job_id)
        labels = select(func.sum(LabelSetRow.num_bytes)).where(LabelSetRow.owner == owner)
        predictions = select(func.sum(MeasurementRow.num_bytes)).where(MeasurementRow.owner == owner)
        sent = FeedbackRow.source == FeedbackSource.SENT  # what the service keeps by itself is not the owner's
        feedback = select(func.sum(FeedbackRow.num_bytes)).where(FeedbackRow.owner == owner, sent)
        others = (vectors.where(JobRow.owner == owner), labels, predictions, feedback)
        return sum(blobs.values()) + sum(int(self._session.scalar(query) or 0) for query in others)
