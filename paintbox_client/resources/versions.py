"""Versions, their origin, and aliases."""

from __future__ import annotations

from paintbox_client.records import Record
from paintbox_client.resources.scores import (
    AccuracyChange,
    AlphaSettings,
    Environment,
    Evaluation,
    FinetuneSettings,
    SplitScore,
    VectorStorage,
)


class BaseBrief(Record):
    """A base model as other resources name it."""

    ref: str
    fingerprint: str


class VersionTerm(Record):
    """One term of a mix: `coefficient` x `profile` x task vector, or `coefficient` x head term."""

    task_vector_sha256: str
    coefficient: float
    profile: str
    kind: str


class LineageBase(Record):
    """The base model of a version."""

    ref: str
    fingerprint: str


class Lineage(Record):
    """The origin of a version. The version of an unpatched base has only its base and environment."""

    base: LineageBase | None
    made_by: str | None
    patch: str | None
    task_vectors: dict[str, str]
    storage: dict[str, VectorStorage]
    task_vector_sha256: str | None
    datasets: dict[str, str | None]
    anchors: dict[str, str | None]
    request: Record | None
    finetune: FinetuneSettings | None
    alpha: float | AlphaSettings | None
    profile: str | None
    reason: str | None
    environment: Environment | None


class NameAccuracy(Record):
    """How well a name that was patched is recognised, on validation images."""

    base: float
    patched: float


class VersionHeadline(Record):
    """The accuracy of a version in two numbers."""

    split: str
    patching_accuracy: float | None
    supported_accuracy: float | None


class PrecisionCheck(Record):
    """A comparison on the version's own validation images, when it was registered."""

    precision: str
    accepted: bool
    reason: str | None
    num_images: int
    cosine: float
    agreement: float
    drop_points: float


class Version(Record):
    """An immutable mix of a base and task vectors; without terms it is the bare base.

    Its name, tags and serving precision may change.
    """

    id: int
    name: str
    tags: list[str]
    base: BaseBrief
    terms: list[VersionTerm]
    parents: list[int]
    lineage: Lineage
    weights_fingerprint: str | None
    evaluation: Evaluation | None
    headline: VersionHeadline | None
    routing: str
    patched_names: dict[str, NameAccuracy] | None
    precision_checks: list[PrecisionCheck] | None
    serving_precision: str
    patch_id: str | None
    patch_name: str | None
    aliases: list[str]
    is_active: bool
    owner: str | None
    created_at: str
    deleted_at: str | None


class Alias(Record):
    """A movable name of a version."""

    name: str
    version: int
    updated_at: str


class RolledBackAlias(Alias):
    """An alias after a rollback."""

    from_version: int
    to_version: int


class AliasApproval(Record):
    """A requested move of an alias, and the decision on it."""

    id: str
    alias: str
    version: int
    state: str
    reason: str
    forced: bool
    requested_by: str
    decided_by: str | None
    decision_reason: str | None
    created_at: str
    expires_at: str
    decided_at: str | None


class CheckReason(Record):
    """Why a move would be rejected."""

    code: str
    detail: str


class CheckedTask(Record):
    """A task that was measured on a version's weights."""

    dataset_id: str
    name: str
    role: str
    split: str
    num_images: int
    measured_version: int | None
    before: float
    after: float
    change_points: float
    low_points: float | None
    high_points: float | None
    limit_points: float | None
    within_limit: bool


class MissingEvaluation(Record):
    """A supported task with a limit that was not measured on a version's weights."""

    dataset_id: str
    name: str
    limit_points: float | None


class AliasCheck(Record):
    """Whether an alias may move to a version, and what is known about the version's weights."""

    alias: str
    version: int
    current_version: int | None
    accepted: bool
    reasons: list[CheckReason]
    loads: bool
    tasks: list[CheckedTask]
    missing: list[MissingEvaluation]
    mean_supported_change_points: float | None
    mean_patching_change_points: float | None


class AliasChange(Record):
    """One move of an alias."""

    id: int
    from_version: int | None
    to_version: int | None
    actor: str
    reason: str
    forced: bool
    at: str


class VersionCheck(Record):
    """One thing that was compared."""

    what: str
    name: str
    matches: bool | None
    expected: str | None
    actual: str | None
    detail: str


class Verification(Record):
    """Whether a version is unchanged since its registration."""

    version: int
    matches: bool
    checks: list[VersionCheck]


class FreedBlob(Record):
    """A blob that nothing needs."""

    sha256: str
    num_bytes: int


class KeptVersion(Record):
    """A version in the trash that stays although its time is over."""

    version: int
    reason: str


class Collected(Record):
    """What a garbage collection freed, or would free."""

    dry_run: bool
    versions: list[int]
    kept: list[KeptVersion]
    task_vectors: list[FreedBlob]
    blobs: list[FreedBlob]
    num_bytes: int


class ComparedVersion(Record):
    """One of two versions; `terms` are those that the other one does not have."""

    id: int
    name: str
    base: str
    weights_fingerprint: str | None
    routing: str
    aliases: list[str]
    terms: list[VersionTerm]


class ComparedTask(Record):
    """What two versions answered to the same images."""

    dataset: str
    name: str | None
    split: str
    before: SplitScore
    after: SplitScore
    changed: int | None
    lost: int | None
    gained: int | None
    change: AccuracyChange | None


class UncomparedTask(Record):
    """A data set that only one of two versions was evaluated on."""

    dataset: str
    name: str | None
    split: str
    missing: int


class ComparedVersions(Record):
    """What distinguishes two versions."""

    before: ComparedVersion
    after: ComparedVersion
    same_weights: bool | None
    tasks: list[ComparedTask]
    uncompared: list[UncomparedTask]
