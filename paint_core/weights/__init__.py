"""Task vectors: measuring, mixing, comparing and storing what fine-tuning changed.

A version is a mix: `theta = theta_base + sum_i coefficient_i * profile_i * tau_i` (a task vector is
`tau = theta_1 - theta_0`, Ilharco et al., arXiv 2212.04089).
"""

from paint_core.weights.files import BASE_KEY, StoredTaskVector, load_task_vector, read_metadata, save_task_vector
from paint_core.weights.fingerprint import fingerprint
from paint_core.weights.measures import block_cosines, block_norms, cosine, relative_norm
from paint_core.weights.mixing import Term, combine, mix, mix_into, mixed_copy
from paint_core.weights.packing import Bits, rounded
from paint_core.weights.vectors import TaskVector, snap, task_vector

__all__ = [
    "BASE_KEY",
    "Bits",
    "StoredTaskVector",
    "TaskVector",
    "Term",
    "block_cosines",
    "block_norms",
    "combine",
    "cosine",
    "fingerprint",
    "load_task_vector",
    "mix",
    "mix_into",
    "mixed_copy",
    "read_metadata",
    "relative_norm",
    "rounded",
    "save_task_vector",
    "snap",
    "task_vector",
]
