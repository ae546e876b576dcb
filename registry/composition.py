"""Arithmetic of terms: a version's weights are a sum, so its terms may be scaled, added up and taken away."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import replace

from registry.versions import TermSpec

_NEGLIGIBLE = 1e-12  # what rounding leaves of a coefficient that was added and taken away


def scale(terms: Iterable[TermSpec], factor: float) -> tuple[TermSpec, ...]:
    """Return the terms with every coefficient multiplied by the factor."""
    return tuple(replace(term, coefficient=term.coefficient * factor) for term in terms)


def add_up(terms: Iterable[TermSpec]) -> tuple[TermSpec, ...]:
    """Return the same sum with one nonzero term for each task vector and profile, in order of first mention."""
    coefficients: dict[tuple[str, str], list[float]] = {}
    for term in terms:
        coefficients.setdefault((term.task_vector_sha256, term.profile), []).append(term.coefficient)
    sums = {key: math.fsum(values) for key, values in coefficients.items()}
    return tuple(TermSpec(sha, sums[sha, profile], profile) for sha, profile in sums if not _gone(sums[sha, profile]))


def without(terms: Iterable[TermSpec], task_vectors: Collection[str]) -> tuple[TermSpec, ...]:
    """Return the terms whose task vector is not among these."""
    return tuple(term for term in terms if term.task_vector_sha256 not in task_vectors)


def same_mix(left: Collection[TermSpec], right: Collection[TermSpec]) -> bool:
    """Return whether two lists of terms give the same weights, whatever their order, but for rounding."""
    return not add_up((*left, *scale(right, -1.0)))


def _gone(coefficient: float) -> bool:
    return abs(coefficient) < _NEGLIGIBLE
