"""Whether a new version may be served at once, and its activation: it can be built, and supported tasks keep limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from sqlalchemy.orm import Session

from contract.report import Certificate, ReportActivation
from contract.versions import ACTIVE_ALIAS
from paint_core.errors import PaintCoreError
from paint_core.evaluation import check_probe, probe_features
from paint_core.models import BaseModel
from pipeline.towers import mix_tower
from registry.acceptance import Assessment
from registry.aliases import Aliases
from registry.approvals import Approvals, MoveRequest
from registry.blobs import BlobStore
from registry.deliveries import Deliveries
from registry.errors import RegistryError
from registry.versions import TermSpec
from worker.settings import WorkerSettings


@dataclass(frozen=True)
class Decision:
    """Whether a version is accepted, and why or why not."""

    accepted: bool
    reason: str


def judge(
    assessment: Assessment,
    base: BaseModel,
    terms: Sequence[TermSpec],
    probe: list[list[float]],
    blobs: BlobStore,
    certificate: Certificate | None = None,
    *,
    needs_certificate: bool = False,
) -> Decision:
    """Return whether a version may be served; one that adds nothing to its base or cannot be built is not accepted.

    Args:
        assessment: Of its test splits, against its limits.
        base: Its base.
        terms: Its stored terms.
        probe: Its features of the probe images.
        blobs: Holds the task vectors.
        certificate: Of rule `certified`; one that certifies nothing is not enough.
        needs_certificate: Whether it must have one.
    """
    if not any(term.coefficient for term in terms):
        return Decision(False, "it adds nothing to its base")
    if certificate is None and needs_certificate:
        return Decision(False, "it has no certificate, which `if_certified` needs")
    if certificate is not None and certificate.stance != "certified":
        return Decision(False, "its validation images are too few to certify that supported tasks keep their limits")
    if assessment.reason is not None:
        return Decision(False, assessment.reason)
    try:
        check_probe(probe_features(mix_tower(base, terms, blobs), base), torch.tensor(probe))
    except (PaintCoreError, RegistryError) as error:
        return Decision(False, f"it cannot be built from what is stored: {error}")
    return Decision(True, f"the worst: {assessment.drops[0]}")


def describe_activation(
    decision: Decision, settings: WorkerSettings, asked: Literal["if_accepted", "if_certified"] = "if_accepted"
) -> ReportActivation:
    """Return what the report says of a decision; a version that waits for approval is not active.

    Args:
        decision: On the version.
        settings: The worker's settings.
        asked: `activate` of the request.
    """
    if decision.accepted and settings.approvals:
        reason = f"it is accepted and waits for the approval of an admin; {decision.reason}"
        return ReportActivation(asked=asked, accepted=False, reason=reason)
    return ReportActivation(asked=asked, accepted=decision.accepted, reason=decision.reason)


def carry_out(decision: Decision, session: Session, settings: WorkerSettings, version_id: int, actor: str) -> None:
    """Move `active` to an accepted version, or request that of an admin if the installation wants approvals.

    Args:
        decision: On the version; a refusal is told to the webhook of the installation.
        session: The transaction that registers the version.
        settings: The worker's settings.
        version_id: The version.
        actor: Who activates it, for the history.
    """
    aliases, url = Aliases(session), settings.webhook_url
    reason = f"accepted: {decision.reason}"[:1000]
    if decision.accepted and settings.approvals:
        asked = MoveRequest(ACTIVE_ALIAS, version_id, aliases.revision(ACTIVE_ALIAS), reason, actor)
        Approvals(session).request(asked, url)
    elif decision.accepted:
        aliases.move(ACTIVE_ALIAS, version_id, actor=actor, reason=reason, webhook_url=url)
    elif url is not None:
        data = {
            "alias": ACTIVE_ALIAS,
            "version": version_id,
            "current_version": aliases.active_version_id(),
            "actor": actor,
            "code": "not_accepted",
            "detail": decision.reason,
        }
        Deliveries(session).tell(url, "alias.refused", data)
