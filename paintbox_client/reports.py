"""How the report of a patch reads on the command line: what changed, how sure that is, warnings, and what next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from paintbox_client.display import print_note, print_table, print_text, print_warning
from paintbox_client.records import JsonObject
from paintbox_client.tables import print_how_to_activate

_FEW_IMAGES = 100
_MOST_WARNINGS = 12
_WORTH_TELLING_POINTS = 5.0
_SMALL_SHARE = 0.1


def print_report(done: JsonObject, active: int | None = None, *, curve: bool = False) -> None:
    """Write a finished patch: a row for each task, how alpha was chosen, warnings, and what to do next.

    Args:
        done: The patch, with its report.
        active: The version that answers; None: not known.
        curve: Whether to write the accuracies at every alpha, too.
    """
    report = done["report"]
    columns = ("TASK", "ROLE", "ZERO-SHOT", "FINE-TUNED", "PATCHED", "CHANGE", "95 %", "IMAGES")
    others = [{**task, "role": "transfer"} for task in report.get("transfer", ())]
    rows = [_row(task) for task in [*report["tasks"], *others]]
    means = [_mean_row(role, report["tasks"]) for role in ("patching", "supported")]
    print_table(
        columns, [*rows, *filter(None, means)], whole=("CHANGE", "95 %"), spare=("ROLE", "IMAGES", "FINE-TUNED")
    )
    if curve:
        print_text("")
        print_curve(report)
    *earlier, last = report.get("stages") or [report]
    for stage in earlier:
        print_text(f"Earlier stage {stage['key']}, {_describe_choice(stage)}")
    print_text(f"Version {report['version_id']}, {_describe_choice(last)}")
    if "id" in done:
        print_text(f"Patch {done['id']} ({done['name']})")
    for note in report.get("notes", ()):
        print_note(note)
    for warning in list(warnings_of(done))[:_MOST_WARNINGS]:
        print_warning(warning)
    _print_next(report, active)


def print_curve(report: JsonObject) -> None:
    """Write the accuracies on validation images at every alpha that was looked at."""
    names = {task["dataset_id"]: task["name"] for task in report["tasks"] if "dataset_id" in task}
    points = report.get("curve") or ()
    tasks = list(points[0]["tasks"]) if points else []
    rows = [
        (
            f"{point['alpha']:g}",
            *(f"{point['tasks'][task]['accuracy']:.1%}" if task in point["tasks"] else None for task in tasks),
            "chosen" if point["alpha"] == report["alpha"] else "" if point.get("measured", True) else "predicted",
        )
        for point in points
    ]
    print_table(("ALPHA", *(names.get(task, task) for task in tasks), ""), rows, whole=("ALPHA",))


def warnings_of(done: JsonObject) -> Iterator[str]:
    """Yield what whoever decides about a finished patch should know, in sentences that say what to do.

    Args:
        done: The patch, with its report.

    Yields:
        str: The gravest first.
    """
    report = done["report"]
    tasks = report["tasks"]
    asked = done.get("request") or {}
    yield from _losses(tasks, asked)
    yield from _weights(report)
    if not any(task["role"] == "supported" for task in tasks):
        yield "No supported task was evaluated, so the cost of the patch is unknown. Add some with --supported."
    for task in tasks:
        yield from _of_task(task, asked)


def _losses(tasks: Sequence[JsonObject], asked: JsonObject) -> Iterator[str]:
    limit = (asked.get("alpha") or {}).get("rule") == "floor"
    remedy = "Choose another alpha with `paintbox reselect`" if limit else "Limit it with `--rule floor --max-drop 1`"
    for task in tasks:
        change = task.get("change") or {}
        if change.get("change_points") is not None and change.get("high_points", 0) < 0:
            points, span = -change["change_points"], _span(change)
            yield f"{task['name']} lost {points:.1f} points (95 %: {span}), which is significant. {remedy}."


def _weights(report: JsonObject) -> Iterator[str]:
    terms = report.get("terms")
    is_base = not any(term["coefficient"] for term in terms) if terms is not None else report.get("alpha") == 0
    if is_base:
        yield (
            "The version equals the base: alpha is 0, no other was better. Try more images, more --iterations or "
            "--anchors."
        )
        return
    for task in report["tasks"]:
        scores = _scores(task)
        before, tuned, after = (_accuracy(scores, at) for at in ("zero_shot", "fine_tuned", "patched"))
        if task["role"] != "patching" or before is None or tuned is None or after is None:
            continue
        gain = 100 * (tuned - before)
        if gain >= _WORTH_TELLING_POINTS and 100 * (after - before) < _SMALL_SHARE * gain:
            yield (
                f"{task['name']}: fine-tuning gains {gain:.1f} points, but the chosen alpha keeps almost none. Choose "
                "alpha on more images (--folds 5), or choose another one with `paintbox reselect`."
            )


def _of_task(task: JsonObject, asked: JsonObject) -> Iterator[str]:
    name, scores = task["name"], _scores(task)
    if task.get("num_classes") == 1:
        yield f"{name} has only one class, so its accuracy is meaningless. Upload several classes."
        return
    total = (scores.get("patched") or {}).get("total")
    if total is not None and total < _FEW_IMAGES:
        step = f"one image is {100 / total:.1f} points" if total else "there is none"
        more = "" if asked.get("folds") or task["role"] == "supported" else ", and choose alpha with --folds 5"
        yield f"{name} was measured on {total} images, where {step}: add images{more}."
    change = task.get("change") or {}
    low, high = change.get("low_points"), change.get("high_points")
    if task["role"] == "patching" and low is not None and high is not None and low <= 0 <= high:
        yield f"{name}: the change of {change['change_points']:+.1f} points is not significant (95 %: {_span(change)})."


def _print_next(report: JsonObject, active: int | None) -> None:
    version, activation = report["version_id"], report.get("activation")
    if active == version:
        print_note(f"Version {version} is active.")
    elif activation and activation.get("accepted"):
        print_note(f"Version {version} was accepted and activated: {activation['reason']}.")
    else:
        if activation:
            print_warning(f"Version {version} was not activated: {activation['reason']}.")
        print_how_to_activate(version)
    print_note(
        f"`paintbox report {version} --curve` shows every alpha; `paintbox reselect {version} --alpha A` changes it."
    )


def _describe_choice(stage: JsonObject) -> str:
    """Return alpha and why, or the coefficients where a search found one for each task."""
    found = stage.get("coefficients")
    if found:
        return "coefficients " + ", ".join(f"{each:g}" for each in found["coefficients"])
    return f"alpha {stage['alpha']:g}: {stage['reason']}"


def _row(task: JsonObject) -> tuple[object, ...]:
    scores, change = _scores(task), task.get("change") or {}
    accuracies = [_percent(_accuracy(scores, at)) for at in ("zero_shot", "fine_tuned", "patched")]
    points = change.get("change_points")
    moved = None if points is None else f"{points:+.1f}"
    span = None if points is None else _span(change)
    return task["name"], task["role"], *accuracies, moved, span, scores["patched"]["total"]


def _mean_row(role: str, tasks: Sequence[JsonObject]) -> tuple[object, ...] | None:
    """Return the means of the tasks of a role; None where there are not several."""
    scores = [_scores(task) for task in tasks if task["role"] == role]
    if len(scores) < 2:
        return None
    means = []
    for at in ("zero_shot", "fine_tuned", "patched"):
        known = [each for each in (_accuracy(score, at) for score in scores) if each is not None]
        means.append(sum(known) / len(known) if len(known) == len(scores) else None)
    before, _, after = means
    moved = None if before is None or after is None else f"{100 * (after - before):+.1f}"
    total = sum(score["patched"]["total"] for score in scores)
    return f"mean of {role}", role, *map(_percent, means), moved, None, total


def _scores(task: JsonObject) -> JsonObject:
    found: JsonObject = task.get("test") or task["validation"]
    return found


def _accuracy(scores: Mapping[str, JsonObject | None], at: str) -> float | None:
    score = scores.get(at)
    return None if score is None else float(score["accuracy"])


def _percent(accuracy: float | None) -> str | None:
    return None if accuracy is None else f"{accuracy:.1%}"


def _span(change: JsonObject) -> str:
    return f"{change['low_points']:+.1f} … {change['high_points']:+.1f}"
