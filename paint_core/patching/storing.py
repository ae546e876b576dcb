"""In how many bits a patch's task vectors are stored: chosen on validation data, and what that costs.

The search for alpha is made along the vectors as they are stored, so the curve, the certificate and the version speak
of the same weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from paint_core.alpha import AlphaSearch, Path
from paint_core.alpha.rules import exact_combined
from paint_core.data import Task
from paint_core.errors import NoAcceptableAlphaError
from paint_core.evaluation import Score
from paint_core.patching.context import PatchContext
from paint_core.patching.plan import StoredBits
from paint_core.patching.terms import NamedTerm
from paint_core.weights import Bits, TaskVector, Term, rounded

TOLERANCE_POINTS = 0.05
"""What `auto` may lose of the combined validation accuracy, in percentage points."""

BITS_WITH_FOLDS: Bits = 16
"""What `auto` means with folds: the task vector that is stored has no validation images to be judged on."""


@dataclass(frozen=True)
class Storage:
    """How the task vectors of one search are stored.

    Attributes:
        bits: of each number.
        loss_points: the combined validation accuracy at the alpha chosen for unrounded vectors, minus that at the alpha
            chosen for the stored ones, in percentage points; negative where rounding helped. None: not compared
            (with folds, and where 16 bits were asked for, whose error is 1 / 65,534 of the largest number in a block).
    """

    bits: Bits
    loss_points: float | None


UNROUNDED = Storage(32, 0.0)


@dataclass(frozen=True, eq=False)
class StoredSearch:
    """A search along task vectors as they are stored.

    Attributes:
        search: its result.
        path: that was searched.
        vectors: the vectors of the moving terms as they are read back.
        storage: their form.
    """

    search: AlphaSearch
    path: Path
    vectors: Mapping[str, TaskVector]
    storage: Storage


def search_stored(
    context: PatchContext,
    key: str,
    moving: Sequence[NamedTerm],
    vectors: Mapping[str, TaskVector],
    patching: Sequence[Task],
    *,
    fixed: Sequence[Term] = (),
    reference: Mapping[str, Score] | None = None,
) -> StoredSearch:
    """The search along the moving terms, whose task vectors are stored in the plan's bits.

    With 16 bits there is one search. With `auto` the fewest of 4, 8 and 16 bits are taken that lose no more than
    `TOLERANCE_POINTS` against unrounded vectors, else 32; each number of bits gets a search of its own, after that of
    the unrounded ones. Alpha 0 has nothing to compare, so 16 are taken.

    Args:
        key: names the search in the journal.
        moving: the direction.
        vectors: every moving term's task vector, unrounded.
        patching: tasks to improve that the choice considers.
        fixed: terms of earlier stages.
        reference: as for `PatchContext.search`.

    Raises:
        NoAcceptableAlphaError: no alpha meets the floor, unrounded or in the bits that the plan names.
    """

    def search(bits: Bits) -> StoredSearch:
        stored = {term.key: rounded(vectors[term.key], bits) for term in moving}
        path = Path(tuple(Term(stored[term.key], term.coefficient) for term in moving), tuple(fixed))
        name = key if bits == 32 else f"{key}:{bits} bits"
        found = context.search(name, path, patching, reference=reference)
        return StoredSearch(found, path, stored, UNROUNDED)

    def store(found: StoredSearch) -> StoredSearch:
        for term in moving:
            context.journal.store(term.key, vectors[term.key], found.storage.bits)
        return found

    def compared(bits: Bits, whole: StoredSearch) -> StoredSearch:
        found = search(bits)
        loss = _combined(context, whole.search, patching) - _combined(context, found.search, patching)
        return replace(found, storage=Storage(bits, loss))

    wanted = context.plan.bits
    if wanted == 16:
        return store(replace(search(16), storage=Storage(16, None)))
    whole = search(32)
    for bits in _candidates(wanted, whole.search.choice.alpha):
        try:
            found = compared(bits, whole)
        except NoAcceptableAlphaError:
            if wanted == bits:
                raise
            continue
        if wanted == bits or (found.storage.loss_points or 0.0) <= TOLERANCE_POINTS:
            return store(found)
    return whole


def _candidates(wanted: StoredBits, alpha: float) -> Sequence[Bits]:
    """The bits to compare with unrounded vectors, whose search chose this alpha."""
    if wanted == "auto":
        return (4, 8, 16) if alpha else (16,)
    return () if wanted == 32 else (wanted,)


def fold_bits(context: PatchContext) -> Bits:
    """The bits of task vectors with folds."""
    return BITS_WITH_FOLDS if context.plan.bits == "auto" else context.plan.bits


def _combined(context: PatchContext, search: AlphaSearch, patching: Sequence[Task]) -> float:
    """The combined accuracy at the choice, or what else is maximised, in %."""
    chosen = next(point for point in search.curve if point.alpha == search.choice.alpha)
    improved, supported = ([task.name for task in tasks] for tasks in (patching, context.supported))
    return 100 * float(exact_combined(chosen, improved, supported, context.plan.alpha.metric))
