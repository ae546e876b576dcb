"""In how many bits a patch's task vectors are stored: chosen on validation data, and what that costs.

The search for alpha is made along the vectors as they are stored, so the curve, the certificate and the version speak
of the same weights. One evaluation of the unrounded vectors at the alpha that was chosen tells what rounding costs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from paint_core.alpha import AlphaOptions, AlphaSearch, CurvePoint, Path
from paint_core.alpha.rules import exact_combined
from paint_core.data import Task
from paint_core.errors import NoAcceptableAlphaError
from paint_core.evaluation import Score
from paint_core.patching.context import PatchContext
from paint_core.patching.terms import NamedTerm
from paint_core.weights import Bits, TaskVector, Term, rounded
from paint_core.weights.packing import FORMS

TOLERANCE_POINTS = 0.05
"""What `auto` may lose of the combined validation accuracy, in percentage points."""

TRIED_BITS: tuple[Bits, ...] = (4, 8)
"""What `auto` tries before it takes 16."""


@dataclass(frozen=True)
class Storage:
    """How the task vectors of one search are stored.

    Attributes:
        bits: of each number.
        loss_points: the combined validation accuracy of the unrounded vectors at the chosen alpha, minus that of the
            stored ones there, in percentage points; negative where rounding helped. None: not compared (with folds, and
            with 16 bits, whose error is 1 / 65,534 of the largest number in a block).
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
    options: AlphaOptions | None = None,
) -> StoredSearch:
    """The search along the moving terms, whose task vectors are stored in the plan's bits.

    `auto` takes 4 bits, then 8, if they lose no more than `TOLERANCE_POINTS` against unrounded vectors; else 16. Each
    number of bits that is tried gets a search of its own. Alpha 0 has nothing to compare, so 16 are taken. With rule
    `certified` there is one search, because a certificate is of one vector: the bits are settled before it, by the
    images of the patching tasks at alpha 1, and those of the supported tasks have no say.

    Args:
        key: names the search in the journal.
        moving: the direction.
        vectors: every moving term's task vector, unrounded.
        patching: tasks to improve that the choice considers.
        fixed: terms of earlier stages.
        reference: as for `PatchContext.search`.
        options: as for `PatchContext.search`.

    Raises:
        NoAcceptableAlphaError: no alpha meets the floor, in the bits that the plan names or, with `auto`, in 16.
    """

    def search(bits: Bits) -> StoredSearch:
        stored = {term.key: rounded(vectors[term.key], bits) for term in moving}
        path = _path(moving, stored, fixed)
        found = context.search(_name(key, bits), path, patching, options=options, reference=reference)
        loss = _loss(context, found, _path(moving, vectors, fixed), patching) if bits in (8, 4) else None
        return StoredSearch(found, path, stored, UNROUNDED if bits == 32 else Storage(bits, loss))

    def settled() -> Bits:
        whole = _patching(context, _path(moving, vectors, fixed), patching)
        for bits in TRIED_BITS:
            stored = {term.key: rounded(vectors[term.key], bits) for term in moving}
            if whole - _patching(context, _path(moving, stored, fixed), patching) <= TOLERANCE_POINTS:
                return bits
        return 16

    wanted = context.plan.stored_bits
    if wanted == "auto" and context.plan.alpha.rule == "certified":
        wanted = settled()
    found = _fewest_bits(search) if wanted == "auto" else search(wanted)
    if found.storage.bits != 32:
        for term in moving:
            context.journal.store(term.key, vectors[term.key], found.storage.bits)
    return found


def _fewest_bits(search: Callable[[Bits], StoredSearch]) -> StoredSearch:
    """The search with the fewest bits that lose next to nothing; 16 if others do, or if they choose alpha 0.

    Raises:
        NoAcceptableAlphaError: none meets the floor.
    """
    for bits in TRIED_BITS:
        try:
            found = search(bits)
        except NoAcceptableAlphaError:
            continue
        if not found.search.choice.alpha:
            break
        if (found.storage.loss_points or 0.0) <= TOLERANCE_POINTS:
            return found
    return search(16)


def _name(key: str, bits: Bits) -> str:
    """The name of a search in the journal."""
    # A run that an earlier release began has points along its own form of 4 bits under the plain name.
    return {32: key, 4: f"{key}:4 bits in blocks of {FORMS[4].block}"}.get(bits, f"{key}:{bits} bits")


def _path(moving: Sequence[NamedTerm], vectors: Mapping[str, TaskVector], fixed: Sequence[Term]) -> Path:
    return Path(tuple(Term(vectors[term.key], term.coefficient) for term in moving), tuple(fixed))


def _loss(context: PatchContext, search: AlphaSearch, unrounded: Path, patching: Sequence[Task]) -> float:
    """What the stored vectors lose at the choice of their search, in percentage points."""
    choice = search.choice.alpha
    if not choice:
        return 0.0
    stored = next(point for point in search.curve if point.alpha == choice)
    whole = context.evaluate(unrounded.with_profile(search.profile), (*patching, *context.supported), choice)
    return _combined(context, whole, patching) - _combined(context, stored, patching)


def _patching(context: PatchContext, path: Path, patching: Sequence[Task]) -> float:
    """The accuracy of the patching tasks at alpha 1, or what else is maximised, in %."""
    point = context.evaluate(path, patching, 1.0)
    return 100 * float(exact_combined(point, [task.name for task in patching], [], context.plan.alpha.metric))


def _combined(context: PatchContext, point: CurvePoint, patching: Sequence[Task]) -> float:
    """The combined accuracy, or what else is maximised, in %."""
    improved, supported = ([task.name for task in tasks] for tasks in (patching, context.supported))
    return 100 * float(exact_combined(point, improved, supported, context.plan.alpha.metric))
