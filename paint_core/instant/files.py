"""Head terms as files, in safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from paint_core.errors import WeightsMismatchError
from paint_core.instant import head_term, statistics_term
from paint_core.instant.gaussian import ClassStatistics
from paint_core.instant.head_term import HeadTerm
from paint_core.instant.nearness import Nearness
from paint_core.instant.statistics_term import StatisticsTerm

_METADATA = "paintbox_head_term"
_FEATURES = ("support", "labels", "head", "weights")
_STATISTICS = ("counts", "means", "precision", "reaches")


def save_head_term(term: HeadTerm | StatisticsTerm) -> bytes:
    """The term as a safetensors file; the same term gives the same bytes."""
    if isinstance(term, HeadTerm):
        tensors = {name: getattr(term, name) for name in _FEATURES}
        described = {name: getattr(term, name) for name in ("scale", "gamma", "ridge", "tower")}
        if term.near is not None:
            tensors |= {"near_means": term.near.means, "near_precision": term.near.precision}
            described["reach"] = term.near.reach
    else:
        assert term.statistics is not None  # only a copy that computes has none
        tensors = {name: getattr(term, name) for name in _STATISTICS} | {"scatters": term.statistics.scatters}
        described = {"keep": "statistics", "tower": term.tower}
    whole = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    return save(whole, {_METADATA: json.dumps({"names": list(term.names), **described})})  # one key: the order varies


def load_head_term(path: Path) -> HeadTerm | StatisticsTerm:
    """The term of a file.

    Raises:
        WeightsMismatchError: the file is not a head term, or its parts do not fit each other.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            if _METADATA not in metadata:
                raise WeightsMismatchError(f"{path.name[:12]} is not a head term: use the file that a patch stored")
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  # no mapping
    except SafetensorError as error:
        raise WeightsMismatchError(f"{path.name[:12]} is not readable: restore it from a backup") from error
    described = json.loads(metadata[_METADATA])
    try:
        return _statistics(described, tensors) if "keep" in described else _features(described, tensors)
    except KeyError as error:
        raise WeightsMismatchError(f"{path.name[:12]} has no {error}: restore it from a backup") from error


def _features(described: dict[str, Any], tensors: dict[str, Tensor]) -> HeadTerm:
    near = None
    if "reach" in described:  # an earlier release stored none
        near = Nearness(tensors["near_means"], tensors["near_precision"], float(described["reach"]))
    term = HeadTerm(
        near=near,
        names=tuple(described["names"]),
        scale=float(described["scale"]),
        gamma=float(described["gamma"]),
        ridge=float(described["ridge"]),
        tower=str(described["tower"]),
        **{name: tensors[name] for name in _FEATURES},
    )
    head_term.require_whole(term)
    return term


def _statistics(described: dict[str, Any], tensors: dict[str, Tensor]) -> StatisticsTerm:
    term = StatisticsTerm(
        names=tuple(described["names"]),
        statistics=ClassStatistics(tensors["counts"], tensors["means"], tensors["scatters"]),
        tower=str(described["tower"]),
        **{name: tensors[name] for name in _STATISTICS},
    )
    statistics_term.require_whole(term)
    return term
