"""What each rule guarantees about the supported tasks, in one sentence for a report."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from paint_core.alpha.certificate import Certificate
from paint_core.alpha.options import AlphaOptions


def guarantee(
    options: AlphaOptions,
    certificate: Certificate | None,
    supported: Collection[str],
    *,
    adds_something: bool = True,
    has_folds: bool = False,
) -> str:
    """What is guaranteed about the supported tasks at a choice.

    Args:
        options: whose rule chose.
        certificate: of the choice; None for other rules than `certified`.
        supported: names of the supported tasks; may be empty.
        adds_something: whether a coefficient of the chosen terms is not 0.
        has_folds: whether the rule judged the models of a cross-validation in place of the patch.
    """
    if not supported:
        return "Nothing is guaranteed: no task is supported, so what the patch costs on other tasks is unknown."
    if not adds_something:
        return "Nothing was added, so nothing was lost."
    if options.rule == "combined":
        return "Rule combined guarantees nothing about the supported tasks: it sets no limit on what they lose."
    if options.rule == "floor":
        judged = "the mean over the models of the folds" if has_folds else "these validation images"
        return f"Rule floor keeps the limits of the supported tasks on {judged}; on other images they may lose more."
    if certificate is None or certificate.stance != "certified":
        images = None if certificate is None else certificate.images_needed
        needed = "" if images is None else f"; about {images} would certify the limits"
        return (
            "Nothing is certified: the validation images show no drop beyond a limit, but are too few to exclude one"
            f"{needed}."
        )
    return (
        f"With {100 * options.confidence:g} % confidence, on images like the validation images, the supported tasks "
        f"lose {_limits(options)}."
    )


def _limits(options: AlphaOptions) -> str:
    mean, each = options.max_mean_drop, options.max_supported_drop
    parts = [] if mean is None else [f"at most {_points(mean)} on average"]
    if isinstance(each, Mapping):
        parts.append("no more than its own limit each")
    elif each is not None:
        parts.append(f"at most {_points(each)} each")
    return " and ".join(parts)


def _points(number: float) -> str:
    return "1 point" if number == 1 else f"{number:g} points"
