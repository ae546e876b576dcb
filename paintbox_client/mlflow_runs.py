"""A patch as a run of MLflow: its settings, what it reported as it ran, its results and its report."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from paintbox_client.errors import InputError
from paintbox_client.resources.patches import Patch
from paintbox_client.run_logs import Sample, step_of

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

EXPERIMENT = "paintbox"
VERSION_TAG = "paintbox.version"
_ENTRIES_A_CALL = 100
"""MLflow takes at most 100 parameters and 1,000 metrics at once."""

_LONGEST_VALUE, _LONGEST_PART = 500, 80
_UNFIT = re.compile(r"[^\w\-. ]|^\.+$", re.ASCII)


def write_mlflow(patch: Patch, samples: Sequence[Sample], page: str | None, uri: str) -> str:
    """Return the id of a new run, in the experiment `paintbox`, that holds all of a patch.

    Parameters are the fields of its request and, when it is finished, the settings of its fine-tuning; metrics are the
    samples, as `RUN/SERIES` (step 250 of a search is alpha 0.25), and the figures of its report; artifacts are the
    report as JSON and as a page.

    Args:
        patch: To write.
        samples: What it reported, from `read_log`.
        page: Its report as HTML; None: it has none yet.
        uri: Of the tracking server or store: `http://host:5000`, `sqlite:///mlflow.db`.

    Raises:
        InputError: MLflow is not installed, or refuses.
    """
    with open_mlflow(uri) as client:
        return _write(client, patch, samples, page)


@contextmanager
def open_mlflow(uri: str) -> Iterator[MlflowClient]:
    """Yield a client of MLflow; what MLflow refuses becomes an `InputError`.

    Raises:
        InputError: MLflow is not installed, or refuses.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would report its use to its makers
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError:
        raise InputError(
            "MLflow is not installed.", "Install it: pip install 'paintbox[mlflow]'; or use --csv."
        ) from None
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    try:
        yield MlflowClient(tracking_uri=uri)
    except MlflowException as error:
        raise InputError(f"MLflow refuses: {error}", "Name a store or server that it knows.") from error


def _write(client: MlflowClient, patch: Patch, samples: Sequence[Sample], page: str | None) -> str:
    from mlflow.entities import Metric, Param

    found = client.get_experiment_by_name(EXPERIMENT)
    experiment = client.create_experiment(EXPERIMENT) if found is None else found.experiment_id
    tags = {"paintbox.patch_id": patch.id, "paintbox.base": patch.base.ref}
    if patch.report is not None and patch.report.version_id is not None:
        tags[VERSION_TAG] = str(patch.report.version_id)
    run: str = client.create_run(experiment, run_name=patch.name, tags=tags).info.run_id
    params = [Param(key, value[:_LONGEST_VALUE]) for key, value in _params(patch).items()]
    last = max((_milliseconds(sample) for sample in samples), default=0)
    metrics = [
        Metric(_key(each.run, *each.series.split("/", 1)), each.value, _milliseconds(each), step_of(each))
        for each in samples
    ]
    metrics += [Metric(_key(*parts), value, last, 0) for parts, value in _figures(patch)]
    for start in range(0, max(len(params), len(metrics)), _ENTRIES_A_CALL):
        part = slice(start, start + _ENTRIES_A_CALL)
        client.log_batch(run, metrics=metrics[part], params=params[part])
    if patch.report is not None:
        client.log_dict(run, dict(patch.report), "report.json")
    if page is not None:
        client.log_text(run, page, "report.html")
    if patch.report is not None or patch.error is not None:
        client.set_terminated(run, "FAILED" if patch.report is None else "FINISHED")
    return run


def _params(patch: Patch) -> dict[str, str]:
    """Return the settings by dotted name; those of a finished fine-tuning over what the request left open."""
    request: dict[str, Any] = {name: value for name, value in patch.request.items() if name != "name"}
    if patch.report is not None and patch.report.finetune is not None:
        asked = request.get("finetune") or {}
        request["finetune"] = {**asked, **patch.report.finetune}
    return {_key(name): value for name, value in _flat(request, "") if value not in ("None", "")}


def _flat(fields: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _figures(patch: Patch) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield the results of a finished patch, under the parts of their names."""
    report = patch.report
    if report is None:
        return
    yield ("alpha",), report.alpha
    if report.version_id is not None:
        yield ("version",), report.version_id
    for task in report.tasks:
        scores = {"zero_shot": task.test.zero_shot, "fine_tuned": task.test.fine_tuned, "patched": task.test.patched}
        for state, score in scores.items():
            if score is not None and score.accuracy is not None:
                yield ("test", state, task.name), score.accuracy
        if task.change is not None:
            yield ("test", "change_points", task.name), task.change.change_points
        judged = None if task.validation is None else task.validation.patched
        if judged is not None and judged.accuracy is not None:
            yield ("validation", "patched", task.name), judged.accuracy


def _key(*parts: str) -> str:
    """Return a name as MLflow allows it, its parts with slashes between them: a data set may be called anything."""
    return "/".join(_UNFIT.sub("_", part)[:_LONGEST_PART] or "_" for part in parts)


def _milliseconds(sample: Sample) -> int:
    return round(datetime.fromisoformat(sample.at).timestamp() * 1000)
