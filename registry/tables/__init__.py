"""The database tables. Only modules of `registry` read or write them."""

from __future__ import annotations

from registry.orm import Base
from registry.tables.access import ApiKeyRow, BrowserSessionRow, IdempotencyKeyRow, ReplicaRow
from registry.tables.datasets import DatasetRow, LabelSetRow, UnusedBlobRow
from registry.tables.feedback import FeedbackRow
from registry.tables.jobs import JobAttemptRow, JobEventRow, JobRow, WebhookDeliveryRow
from registry.tables.versions import (
    AliasApprovalRow,
    AliasHistoryRow,
    AliasRow,
    BaseModelRow,
    TaskVectorRow,
    VersionParentRow,
    VersionRow,
    VersionTagRow,
    VersionTermRow,
)
from registry.tables.work import EvaluationRow, MeasurementRow, PatchRow

__all__ = [
    "AliasApprovalRow",
    "AliasHistoryRow",
    "AliasRow",
    "ApiKeyRow",
    "Base",
    "BaseModelRow",
    "BrowserSessionRow",
    "DatasetRow",
    "EvaluationRow",
    "FeedbackRow",
    "IdempotencyKeyRow",
    "JobAttemptRow",
    "JobEventRow",
    "JobRow",
    "LabelSetRow",
    "MeasurementRow",
    "PatchRow",
    "ReplicaRow",
    "TaskVectorRow",
    "UnusedBlobRow",
    "VersionParentRow",
    "VersionRow",
    "VersionTagRow",
    "VersionTermRow",
    "WebhookDeliveryRow",
]
