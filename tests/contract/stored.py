"""What earlier releases stored, by the code that they had: JSON that must stay readable and is repeated as it is."""

from typing import Any

from pydantic import BaseModel

_SCORE = {"correct": 9, "total": 10, "accuracy": 0.9, "low": 0.59, "high": 0.98, "loss": 0.3}
_SCORES = {"zero_shot": _SCORE, "fine_tuned": _SCORE, "patched": _SCORE}
_POINT = {"alpha": 0.5, "combined": 0.9, "patching": 0.9, "supported": None, "tasks": {"ds_1": _SCORE}}
_ENVIRONMENT = {
    "python": "3.11.7",
    "libraries": {"torch": "2.13.0"},
    "machine": "x86_64",
    "device": "cpu",
    "num_threads": 2,
}
_FINETUNE = {"iterations": 100, "batch_size": 32, "learning_rate": 1e-5, "crop_scale": [0.9, 1.0], "last_k": None}

FIRST_REPORT: dict[str, Any] = {
    "alpha": 0.5,
    "rule": "combined",
    "reason": "the best",
    "tasks": [
        {
            "dataset_id": "ds_1",
            "name": "digits",
            "role": "patching",
            "num_classes": 10,
            "validation": _SCORES,
            "test": _SCORES,
        }
    ],
    "curve": [_POINT],
    "finetune": _FINETUNE | {"final_loss": 0.2},
    "timings_seconds": {"prepare": 1.0, "finetune": 2.5},
    "update": {"relative_norm": 0.01, "cosine": 0.999},
    "task_vector_sha256": "a" * 64,
    "version_id": 2,
    "environment": _ENVIRONMENT,
}
"""Of one task on a flat path: without stages, terms, change, ECE and top-5."""

FIRST_LINEAGE: dict[str, Any] = {
    "base": {"ref": "starter", "fingerprint": "f" * 64},
    "task_vector_sha256": "a" * 64,
    "alpha": 0.5,
    "datasets": {"ds_1": "d" * 64},
    "request": {"name": "digits", "tasks": ["ds_1"], "supported": [], "alpha": {"rule": "combined"}},
    "finetune": _FINETUNE,
    "environment": _ENVIRONMENT,
}

FIRST_EVALUATION: dict[str, Any] = {
    "split": "test",
    "max_supported_drop": {"ds_2": 1.5},
    "tasks": [
        {"dataset_id": "ds_2", "name": "food", "role": "supported", "zero_shot": _SCORE, "patched": _SCORE},
    ],
}


def unknown_fields(value: Any, path: str = "") -> list[str]:
    """Paths of the fields, in a model and those in it, that the models do not declare."""
    if isinstance(value, BaseModel):
        found = [f"{path}.{name}" for name in value.model_extra or {}]
        return found + [each for name, item in vars(value).items() for each in unknown_fields(item, f"{path}.{name}")]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, tuple) else ()
    return [each for key, item in items for each in unknown_fields(item, f"{path}[{key}]")]
