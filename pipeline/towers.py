"""From the stored terms of a version to its image tower, and what is recorded of the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from paint_core.models import BaseModel
from paint_core.models.batch_norm import require_still_statistics
from paint_core.weights import StoredTaskVector, Term, mixed_copy
from registry.blobs import BlobStore
from registry.versions import TermSpec


def mix_tower(
    base: BaseModel, terms: Sequence[TermSpec], blobs: BlobStore, yield_cpu: Callable[[], object] = int
) -> nn.Module:
    """Return the base's image tower with the terms added; without any but head terms, the base's own.

    What the terms leave as it is, is the base's own memory, so nobody may change the tower. Building it takes no more
    memory than the tensors that differ, and one more.

    Args:
        yield_cpu: Called every few milliseconds of work; may wait.
    """
    terms = [spec for spec in terms if not spec.is_head]
    if not terms:
        return base.visual
    theta_base = base.visual.state_dict()
    return mixed_copy(base.visual, [_load_term(spec, base, theta_base, blobs, yield_cpu) for spec in terms])


class _YieldingTaskVector(StoredTaskVector):
    """A task vector that yields the CPU before each tensor is read."""

    yield_cpu: Callable[[], object] = int

    def __getitem__(self, name: str) -> Tensor:
        self.yield_cpu()
        return super().__getitem__(name)


def _load_term(
    spec: TermSpec,
    base: BaseModel,
    theta_base: Mapping[str, Tensor],
    blobs: BlobStore,
    yield_cpu: Callable[[], object],
) -> Term:
    path = blobs.fetch(spec.task_vector_sha256)
    vector = _YieldingTaskVector(path, theta_base, base_fingerprint=base.fingerprint)
    require_still_statistics(base.visual, vector)
    vector.yield_cpu = yield_cpu
    return Term(vector, spec.coefficient, spec.profile)
