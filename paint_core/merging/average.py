"""The average: what PAINT calls parallel patching (Ilharco et al., arXiv 2208.05592, section 5)."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from paint_core.weights import TaskVector, Term, combine


def average(task_vectors: Sequence[Mapping[str, Tensor]]) -> TaskVector:
    """The mean of the task vectors: the update to the average of the fine-tuned models."""
    return combine([Term(tau, 1 / len(task_vectors)) for tau in task_vectors])
