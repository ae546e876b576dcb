"""Task arithmetic: the sum of task vectors (Ilharco et al., ICLR 2023, arXiv 2212.04089, section 3)."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from paint_core.weights import TaskVector, Term, combine


def task_arithmetic(task_vectors: Sequence[Mapping[str, Tensor]]) -> TaskVector:
    """The sum of the task vectors. The paper scales it by a searched coefficient, 0.3 or 0.4 for many tasks."""
    return combine([Term(tau, 1.0) for tau in task_vectors])
