"""What a request for a patch would do, on the command line."""

from __future__ import annotations

from paintbox_client.display import print_note, print_table, print_warning
from paintbox_client.resources.patches import PatchCheck

_SPLITS = ("train", "validation", "test")


def print_check(check: PatchCheck) -> None:
    """Print the data sets that a patch would use, its duration, what it can certify, and warnings."""
    rows = [(each.name, each.role, *(each.images.get(split) for split in _SPLITS)) for each in check.datasets]
    print_table(("data set", "role", *_SPLITS), rows)
    alpha = check.request["alpha"]
    print_note(f"Base {check.base.ref}, method {check.request['method']}, rule {alpha['rule']}.")
    print_note(f"{_steps(check)} {_duration(check)}")
    names = {each.id: each.name for each in check.datasets}
    for limit in check.certification:
        what = "the mean of the supported tasks" if limit.dataset is None else names[limit.dataset]
        print_note(
            f"Certifying that {what} drops by at most {limit.max_drop:g} points takes about {limit.images_needed} "
            f"validation images if {check.flip_rate:.1%} of the answers change; there are {limit.num_images}."
        )
    for warning in check.warnings:
        print_warning(warning)


def _steps(check: PatchCheck) -> str:
    if check.num_steps is None:
        return "The service has not loaded the base."
    memory = f", at least {check.memory_bytes / 1e9:.2g} GB of memory" if check.memory_bytes else ""
    return f"{check.num_steps} optimizer steps{memory}."


def _duration(check: PatchCheck) -> str:
    estimate = check.estimate
    if estimate is None:
        return "No patch of this base has succeeded yet, so its duration is unknown."
    return (
        f"It takes about {_seconds(estimate.seconds)} ({_seconds(estimate.low)} to {_seconds(estimate.high)}), by the "
        f"speed of {estimate.num_patches} earlier patches."
    )


def _seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
