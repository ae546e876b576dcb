"""How far an index of embeddings stays usable after a patch: the old vectors with queries of the new model."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURS = 10
_QUERIES_A_CHUNK = 512


@dataclass(frozen=True, eq=False)
class Compatibility:
    """The comparison, image by image.

    Attributes:
        cosine: float32 [N], between the old and the new embedding of an image.
        recall: float32 [N], the share of the nearest old embeddings of the image's old embedding that are also the
            nearest ones of its new embedding; the image itself is left out. Empty where fewer than two images are.
    """

    cosine: Tensor
    recall: Tensor


def compare_embeddings(old: Tensor, new: Tensor, neighbours: int = NEIGHBOURS) -> Compatibility:
    """The comparison of two models' embeddings of the same images.

    Args:
        old: [N, D], of any length: the index.
        new: [N, D], of any length: the queries, in the same order.
        neighbours: of each query; all others where there are fewer.
    """
    old, new = (F.normalize(each.float(), dim=-1) for each in (old, new))
    cosine = (old * new).sum(dim=-1).cpu()
    nearest = min(neighbours, len(old) - 1)
    if nearest < 1:
        return Compatibility(cosine, torch.empty(0))
    chunks = [
        _recall(old, new, torch.arange(start, min(start + _QUERIES_A_CHUNK, len(old)), device=old.device), nearest)
        for start in range(0, len(old), _QUERIES_A_CHUNK)
    ]
    return Compatibility(cosine, torch.cat(chunks).cpu())


def _recall(old: Tensor, new: Tensor, rows: Tensor, nearest: int) -> Tensor:
    expected, found = (_nearest(queries[rows], old, rows, nearest) for queries in (old, new))
    return (found.unsqueeze(2) == expected.unsqueeze(1)).any(dim=2).float().mean(dim=1)


def _nearest(queries: Tensor, index: Tensor, rows: Tensor, nearest: int) -> Tensor:
    """The places [Q, nearest] of the nearest vectors of an index, without those of the queries' own images."""
    cosines = queries @ index.T
    cosines[torch.arange(len(rows), device=rows.device), rows] = -torch.inf
    return cosines.topk(nearest, dim=1).indices
