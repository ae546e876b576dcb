"""Whether a new version may be served at once: it can be built, and the supported tasks keep their limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from contract.report import Certificate
from paint_core.errors import PaintCoreError
from paint_core.evaluation import check_probe, probe_features
from paint_core.models import BaseModel
from pipeline.towers import mix_tower
from registry.acceptance import Assessment
from registry.blobs import BlobStore
from registry.errors import RegistryError
from registry.versions import TermSpec


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
) -> Decision:
    """Return whether a version may be served; one that adds nothing to its base or cannot be built is not accepted.

    Args:
        assessment: Of its test splits, against its limits.
        base: Its base.
        terms: Its stored terms.
        probe: Its features of the probe images.
        blobs: Holds the task vectors.
        certificate: Of rule `certified`; one that certifies nothing is not enough.
    """
    if not any(term.coefficient for term in terms):
        return Decision(False, "it adds nothing to its base")
    if certificate is not None and certificate.stance != "certified":
        return Decision(False, "its validation images are too few to certify that supported tasks keep their limits")
    if assessment.reason is not None:
        return Decision(False, assessment.reason)
    try:
        check_probe(probe_features(mix_tower(base, terms, blobs), base), torch.tensor(probe))
    except (PaintCoreError, RegistryError) as error:
        return Decision(False, f"it cannot be built from what is stored: {error}")
    return Decision(True, f"the worst: {assessment.drops[0]}")
