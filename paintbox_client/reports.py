"""The report of a patch on the command line: changes with their uncertainty, warnings, next steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from paintbox_client.display import print_note, print_table, print_text, print_warning
from paintbox_client.records import JsonObject
from paintbox_client.resources.patches import PatchOptions
from paintbox_client.resources.reports import (
    EmbeddingCompatibility,
    HeldOutScores,
    PatchReport,
    ReportCandidate,
    ReportStage,
    ReportTask,
    ReportTransfer,
    TransferScores,
    ValidationScores,
)
from paintbox_client.resources.scores import SplitScore, TaskAccuracyChange, VectorStorage
from paintbox_client.tables import print_how_to_activate

_FEW_IMAGES = 100
_MOST_WARNINGS = 12
_WORTH_TELLING_POINTS = 5.0
_SMALL_SHARE = 0.1
_MEAN = "mean of supported"
_SURELY = 3.29
"""Standard errors of a difference that chance exceeds once in a thousand cases."""


def print_report(done: JsonObject, active: int | None = None, *, curve: bool = False, next_steps: bool = True) -> None:
    """Print a finished patch: a row for each task, how alpha was chosen and what that guarantees, warnings, next steps.

    Args:
        done: The patch, with its report.
        active: The served version; None: not known.
        curve: Whether to print the accuracies at every alpha.
        next_steps: Whether to print which commands of a service may follow.
    """
    report = PatchReport(done["report"])
    _print_tasks(report)
    if curve:
        print_text("")
        print_curve(report)
    print_trials(report)
    stages: list[ReportStage | PatchReport] = [*report.stages] or [report]
    *earlier, last = stages
    for stage in earlier:
        print_text(f"Earlier stage {stage['key']}, {_describe_choice(stage)}")
    print_text(f"Version {report.version_id}, {_describe_choice(last)}")
    if report.guarantee:
        print_text(f"Guarantee: {report.guarantee}")
    if report.certificate is not None:
        print_certificate(report)
    for line in _describe_parts(report):
        print_text(line)
    if "id" in done:
        print_text(f"Patch {done['id']} ({done['name']})")
    _print_remarks(done, report)
    if next_steps:
        _print_next(report, active)


def _print_remarks(done: JsonObject, report: PatchReport) -> None:
    for note in report.notes:
        print_note(note)
    for warning in list(warnings_of(done))[:_MOST_WARNINGS]:
        print_warning(warning)


def _describe_parts(report: PatchReport) -> Iterator[str]:
    yield from map(_describe_candidate, report.candidates)
    for term in report.terms:
        if term.storage is not None and term.storage.bits != 32:
            yield f"Task vector {term.key}: {_describe_storage(term.storage)}"
    if report.embeddings is not None:
        yield _describe_embeddings(report.embeddings)


def _describe_embeddings(found: EmbeddingCompatibility) -> str:
    """Return whether an index of the base's embeddings is still worth asking."""
    return (
        f"Embeddings: queries of this version find {found.recall:.1%} of the {found.neighbours} nearest images in an "
        f"index of the base (mean cosine {found.mean_cosine:.4f}, {found.num_images:,} validation images)."
    )


def _describe_candidate(candidate: ReportCandidate) -> str:
    supported = "" if candidate.supported is None else f", supported tasks {_percent(candidate.supported)}"
    kept = "kept" if candidate.kept else "tried"
    figures = f"validation: patching tasks {_percent(candidate.patching)}{supported}"
    below = f" on weights at {candidate.weights_alpha:g}" if candidate.way == "stacked" else ""
    return f"{candidate.way}, alpha {candidate.alpha:g}{below}, {kept} ({figures})"


def is_unchanged(report: PatchReport) -> bool:
    """Return whether the patch adds nothing to the base, because no alpha above 0 was acceptable."""
    if "terms" in report:
        return not any(term.coefficient for term in report.terms)
    return report.alpha == 0


def print_certificate(report: PatchReport) -> None:
    """Print how far the supported tasks may have dropped, limit by limit."""
    certificate = report.certificate
    assert certificate is not None
    names = {task.dataset_id: task.name for task in report.tasks}
    confidence = f"{100 * certificate.confidence:g} %"
    rows = [
        (
            _MEAN if bound.dataset_id is None else names.get(bound.dataset_id, bound.dataset_id),
            f"{bound.drop_points:+.1f}",
            f"{bound.high_points:+.1f}",
            f"{bound.limit_points:g}",
            "yes" if bound.certified else "no",
        )
        for bound in certificate.bounds
    ]
    print_text("")
    print_table(("DROP IN POINTS", "MEASURED", f"AT MOST ({confidence})", "LIMIT", "CERTIFIED"), rows)


def print_trials(report: PatchReport) -> None:
    """Print the trials of learning rate and iterations, if there are any, with their validation accuracies."""
    if not report.trials:
        return
    rows = [
        (
            trial.number,
            f"{trial.learning_rate:g}",
            trial.iterations,
            None if trial.alpha is None else f"{trial.alpha:g}",
            _percent(trial.patching),
            _percent(trial.supported),
            "chosen" if trial.chosen else trial.failure or "",
        )
        for trial in report.trials
    ]
    print_text("")
    print_table(("TRIAL", "LEARNING RATE", "ITERATIONS", "ALPHA", "PATCHING", "SUPPORTED", ""), rows)


def print_curve(report: PatchReport) -> None:
    """Write the accuracies on validation images at every alpha that was looked at."""
    names = {task.dataset_id: task.name for task in report.tasks}
    points = report.curve
    tasks = list(points[0].tasks) if points else []
    rows = [
        (
            f"{point.alpha:g}",
            *(_percent(point.tasks[task].accuracy) if task in point.tasks else None for task in tasks),
            "chosen" if point.alpha == report.alpha else "predicted" if point.measured is False else "",
        )
        for point in points
    ]
    print_table(("ALPHA", *(names.get(task, task) for task in tasks), ""), rows, whole=("ALPHA",))


def warnings_of(done: JsonObject) -> Iterator[str]:
    """Yield warnings about a finished patch, the most serious first, in sentences that say what to do."""
    report, asked = PatchReport(done["report"]), PatchOptions(done.get("request") or {})
    tasks = report.tasks
    if report.instant is not None and report.instant.advice is not None:
        yield report.instant.advice
    yield from _uncertified(report)
    yield from _unlike_splits(report)
    yield from _losses(tasks, asked)
    yield from _weights(report)
    if not any(task.role == "supported" for task in tasks):
        yield "No supported task was evaluated, so the cost of the patch is unknown. Add some with --supported."
    for task in tasks:
        yield from _of_task(task, asked)


def _uncertified(report: PatchReport) -> Iterator[str]:
    certificate = report.certificate
    if certificate is not None and certificate.stance != "certified":
        images, needed = certificate.images_needed, ""
        if images is not None:
            needed = f" (about {images} are needed if the patch costs nothing)"
        yield (
            f"Nothing is certified: the supported tasks have too few validation images. Add images{needed}, or allow "
            "larger drops with --max-mean-drop and --max-drop."
        )


def _unlike_splits(report: PatchReport) -> Iterator[str]:
    """Yield a warning for each supported task of which the base knows one split far better than the other.

    A limit that is certified on validation images holds for images that are drawn alike. The test is that of two
    proportions, at p = 0.001.
    """
    for task in report.tasks if report.certificate is not None else ():
        scores = [split.zero_shot for split in (task.validation, task.test) if split is not None]
        counts = [(each.correct, each.total) for each in scores if each is not None and each.total]
        if task.role != "supported" or len(counts) < 2:
            continue
        (first, total), (second, other_total) = counts
        share = (first + second) / (total + other_total)
        error = math.sqrt(share * (1 - share) * (1 / total + 1 / other_total))
        if abs(first / total - second / other_total) > _SURELY * error:
            yield (
                f"{task.name}: the base gets {first / total:.1%} of the validation images right and "
                f"{second / other_total:.1%} of the test images, so they differ in kind, and limits hold for images "
                "like the validation images only. Upload the images without named splits, so that they are divided by "
                "chance."
            )


def _losses(tasks: Sequence[ReportTask], asked: PatchOptions) -> Iterator[str]:
    limit = "alpha" in asked and asked.alpha.rule != "combined"
    remedy = "Choose another alpha with `paintbox reselect`" if limit else "Limit it with `--rule certified`"
    for task in tasks:
        if task.change is not None and task.change.high_points < 0:
            points, span = -task.change.change_points, _span(task.change)
            yield f"{task.name} lost {points:.1f} points (95 %: {span}), which is significant. {remedy}."


def _weights(report: PatchReport) -> Iterator[str]:
    if is_unchanged(report):
        yield (
            "The version equals the base: alpha is 0, because no other was acceptable. Try --anchors, more images, or "
            "larger limits with --max-mean-drop and --max-drop."
        )
        return
    for task in report.tasks:
        before, tuned, after = _accuracies(task)
        if task.role != "patching" or before is None or tuned is None or after is None:
            continue
        gain = 100 * (tuned - before)
        if gain >= _WORTH_TELLING_POINTS and 100 * (after - before) < _SMALL_SHARE * gain:
            yield (
                f"{task.name}: fine-tuning gains {gain:.1f} points, but the chosen alpha keeps almost none. Choose "
                "alpha on more images (--folds 5), or choose another one with `paintbox reselect`."
            )


def _of_task(task: ReportTask, asked: PatchOptions) -> Iterator[str]:
    name, patched, change = task.name, _scores(task).patched, task.change
    if task.num_classes == 1:
        yield f"{name} has only one class, so its accuracy is meaningless. Upload several classes."
        return
    yield from _few_validation_images(task, asked)
    if patched is not None and patched.total < _FEW_IMAGES:
        step = f"one image is {100 / patched.total:.1f} points" if patched.total else "there is none"
        more = "" if asked.folds or task.role == "supported" else ", and choose alpha with --folds 5"
        yield f"{name} was measured on {patched.total} images, where {step}: add images{more}."
    if task.role == "patching" and change is not None and change.low_points <= 0 <= change.high_points:
        yield f"{name}: the change of {change.change_points:+.1f} points is not significant (95 %: {_span(change)})."


def _few_validation_images(task: ReportTask, asked: PatchOptions) -> Iterator[str]:
    split = task.images.get("validation")
    if split is None or not 0 < split.num_images < _FEW_IMAGES or asked.folds:
        return
    remedy = "Add images." if task.role == "supported" else "Add images, or choose alpha with --folds 5."
    yield (
        f"{task.name} has {split.num_images} validation images to choose alpha by, where one image is "
        f"{100 / split.num_images:.1f} points. {remedy}"
    )


def _print_next(report: PatchReport, active: int | None) -> None:
    version, activation = report["version_id"], report.activation
    more = f"`paintbox report {version} --curve` shows every alpha; `paintbox reselect {version} --alpha A` changes it."
    if is_unchanged(report):
        print_note(more)
        print_warning(f"No acceptable patch: version {version} equals the base.")
        return
    if active == version:
        print_note(f"Version {version} is active.")
    elif activation and activation.accepted:
        print_note(f"Version {version} was accepted and activated: {activation.reason}.")
    else:
        if activation:
            print_warning(f"Version {version} was not activated: {activation.reason}.")
        print_how_to_activate(version)
    print_note(more)


def _describe_storage(storage: VectorStorage) -> str:
    stored = f"stored in {storage.bits} bits a number"
    if storage.loss_points is None:
        return stored
    return f"{stored}, {-storage.loss_points:+.2f} points of combined validation accuracy against 32 bits"


def _describe_choice(stage: ReportStage | PatchReport) -> str:
    """Return alpha and why, or the coefficients where a search found one for each task."""
    if isinstance(stage, ReportStage) and stage.coefficients:
        return "coefficients " + ", ".join(f"{each:g}" for each in stage.coefficients.coefficients)
    return f"alpha {stage.alpha:g}: {stage.reason}"


def _print_tasks(report: PatchReport) -> None:
    """Print a row for each task, and the means of the roles that have several."""
    rows = [*(_row(task, task.role) for task in report.tasks), *(_row(task, "transfer") for task in report.transfer)]
    rows += filter(None, (_mean_row(role, report.tasks) for role in ("patching", "supported")))
    columns = ["TASK", "ROLE", "BEFORE", "FINE-TUNED", "AFTER", "CHANGE", "95 %", "IMAGES"]
    if report.certificate is not None:
        columns.append("CERTIFIED")
        rows = [(*row, _certified(report, *row[:2])) for row in rows]
    print_table(columns, rows, whole=("CHANGE", "95 %", "CERTIFIED"), spare=("ROLE", "IMAGES", "FINE-TUNED"))


def _certified(report: PatchReport, name: object, role: object) -> str | None:
    """Return whether the limits of a row's task, or of the mean, are certified; None: it has none."""
    certificate = report.certificate
    if certificate is None or role != "supported":
        return None
    supported = {task.dataset_id: task.name for task in report.tasks if task.role == "supported"}
    bounds = [
        bound.certified
        for bound in certificate.bounds
        if (supported.get(bound.dataset_id or "", _MEAN) == name) or (bound.dataset_id is None and len(supported) == 1)
    ]
    return None if not bounds else "yes" if all(bounds) else "no"


def _row(task: ReportTask | ReportTransfer, role: str) -> tuple[object, ...]:
    change, accuracies = task.change, map(_percent, _accuracies(task))
    moved = None if change is None else f"{change.change_points:+.1f}"
    span = None if change is None else _span(change)
    return task.name, role, *accuracies, moved, span, _total(task)


def _mean_row(role: str, tasks: Sequence[ReportTask]) -> tuple[object, ...] | None:
    """Return the means of the tasks of a role; None if there is only one."""
    those = [task for task in tasks if task.role == role]
    if len(those) < 2:
        return None
    means = []
    for column in zip(*map(_accuracies, those), strict=True):
        known = [each for each in column if each is not None]
        means.append(sum(known) / len(known) if len(known) == len(those) else None)
    before, _, after = means
    moved = None if before is None or after is None else f"{100 * (after - before):+.1f}"
    return f"mean of {role}", role, *map(_percent, means), moved, None, sum(map(_total, those))


def _scores(task: ReportTask | ReportTransfer) -> ValidationScores | TransferScores | HeldOutScores:
    return task.validation if isinstance(task, ReportTask) and "test" not in task else task.test


def _accuracies(task: ReportTask | ReportTransfer) -> tuple[float | None, float | None, float | None]:
    """Return the accuracies zero-shot, fine-tuned and patched."""
    scores = _scores(task)
    return _accuracy(scores.zero_shot), _accuracy(scores.fine_tuned), _accuracy(scores.patched)


def _accuracy(score: SplitScore | None) -> float | None:
    return None if score is None else score.accuracy


def _total(task: ReportTask | ReportTransfer) -> int:
    patched = _scores(task).patched
    return 0 if patched is None else patched.total


def _percent(accuracy: float | None) -> str | None:
    return None if accuracy is None else f"{accuracy:.1%}"


def _span(change: TaskAccuracyChange) -> str:
    return f"{change.low_points:+.1f} … {change.high_points:+.1f}"
