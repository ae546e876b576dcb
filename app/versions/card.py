"""Files that describe an exported version: a model card as the Hugging Face Hub reads it, and its results as YAML."""

from __future__ import annotations

import html
import re
from typing import Any

import yaml

from app.versions.schemas import Version
from app.versions.usage import describe_usage
from contract.evaluation import Evaluation
from contract.storage import VectorStorage
from paint_core.exporting import ExportFormat
from paint_core.models.base import find_repository

_STARTER = "starter"
_HUB_URL = "https://huggingface.co/"
_TASK = "zero-shot-image-classification"
_MARKUP = re.compile(r"([\\`*_\[\]#|~])")


def model_card(version: Version, chosen: ExportFormat = "open_clip", *, has_head: bool = False) -> str:
    """Return the README of an exported version: metadata, origin, how to load it, results.

    Args:
        chosen: The format of the export.
        has_head: Whether the export contains `head.npy`.
    """
    metadata: dict[str, Any] = {
        "library_name": chosen,
        "pipeline_tag": _TASK,
        "tags": ["clip", "paintbox", *version.tags],
        **_origin(version),
        **_index(version),
        "paintbox": {
            "version": version.id,
            "name": version.name,
            "created_at": version.created_at.isoformat(),
            "base": version.base.model_dump(),
            "terms": [term.model_dump() for term in version.terms],
            "weights_fingerprint": version.weights_fingerprint,
            "parents": version.parents,
            "lineage": version.lineage.to_json(),
        },
    }
    parts = [
        f"---\n{_dump(metadata)}---",
        f"# {_in_line(version.name)}",
        f"Version {version.id} of a Paintbox installation: {_describe_mix(version)}",
        describe_usage(chosen, has_head=has_head),
        _describe_results(version.evaluation),
    ]
    return "\n\n".join(parts) + "\n"


def eval_results(version: Version) -> str:
    """Return the results of a version that has an evaluation, one entry for each data set."""
    assert version.evaluation is not None
    hashes = version.lineage.datasets
    entries = [
        {
            "dataset": {
                "id": task.dataset_id,
                "name": task.name,
                "content_sha256": hashes.get(task.dataset_id),
                "split": version.evaluation.split,
            },
            "role": task.role,
            "metric": "top-1 accuracy",
            "value": task.patched.accuracy,
            "interval": [task.patched.low, task.patched.high],
            "zero_shot": task.zero_shot.accuracy,
            "num_images": task.patched.total,
        }
        for task in version.evaluation.tasks
    ]
    return _dump(entries)


def _origin(version: Version) -> dict[str, Any]:
    """Return what the card says of the base and of its licence, which a patch does not change."""
    ref = version.base.ref
    if ref == _STARTER:
        return {"license": "apache-2.0"}
    unknown = {"license": "other", "license_name": "license-of-the-base-model"}
    repository = find_repository(ref)
    if repository is None:
        return unknown
    relation = {"base_model_relation": "finetune"} if version.terms else {}
    return {**unknown, "license_link": f"{_HUB_URL}{repository}", "base_model": repository, **relation}


def _index(version: Version) -> dict[str, Any]:
    """Return the measured accuracies in the Hub's form; nothing without an evaluation."""
    if version.evaluation is None or not version.evaluation.tasks:
        return {}
    split = version.evaluation.split
    results = [
        {
            "task": {"type": _TASK},
            "dataset": {"type": task.dataset_id, "name": task.name, "split": split},
            "metrics": [{"type": "accuracy", "value": task.patched.accuracy, "name": f"Top-1, {task.role} task"}],
        }
        for task in version.evaluation.tasks
    ]
    return {"model-index": [{"name": version.name, "results": results}]}


def _describe_mix(version: Version) -> str:
    if not version.terms:
        return f"the unpatched base `{version.base.ref}`."
    num_terms = len(version.terms)
    mix = f"base `{version.base.ref}` plus {num_terms} task vector{'s' if num_terms > 1 else ''}."
    rounded = {key: each for key, each in version.lineage.storage.items() if each.bits != 32}
    return " ".join([mix, *(_describe_storage(key, each) for key, each in rounded.items())])


def _describe_storage(key: str, storage: VectorStorage) -> str:
    stored = f"{_in_line(key)} is stored in {storage.bits} bits a number"
    if storage.loss_points is None:
        return f"{stored}."
    change = "lowers" if storage.loss_points >= 0 else "raises"
    return f"{stored}, which {change} the combined validation accuracy by {abs(storage.loss_points):.2f} points."


def _describe_results(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "This version has not been evaluated."
    rows = [
        f"| {_in_line(task.name)} | {task.role} | {task.zero_shot.accuracy:.1%} "
        f"| {task.patched.accuracy:.1%} | {task.patched.total} |"
        for task in evaluation.tasks
    ]
    header = f"| data set | role | zero-shot | this model | {evaluation.split} images |\n|---|---|---|---|---|"
    return "\n".join([f"Top-1 accuracy on {evaluation.split} splits:\n", header, *rows])


def _in_line(text: str) -> str:
    """Return a name as Markdown that shows it, and is neither markup nor HTML."""
    printable = "".join(each if each.isprintable() else " " for each in text)
    return _MARKUP.sub(r"\\\1", html.escape(" ".join(printable.split()), quote=False))


def _dump(value: Any) -> str:
    dumped: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return dumped
