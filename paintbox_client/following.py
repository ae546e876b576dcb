"""Job events in words: step, loss and speed of fine-tuning, accuracies at each alpha."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paintbox_client.client import Client
from paintbox_client.errors import ApiError
from paintbox_client.records import JsonObject

_NAMES = {"images_per_second": "images/s", "learning_rate": "learning rate", "anchor_loss": "anchor loss"}


def describe_event(event: JsonObject, names: Mapping[str, str] | None = None) -> str:
    """Return a job's event in one line, such as `fine-tuning: step 40, loss 0.31, 512 images/s`.

    `names` are those of data sets by id.
    """
    data = dict(event.get("data") or {})
    accuracies = data.pop("accuracies", None) or {}
    told = [_describe(name, value) for name, value in data.items() if name != "request_id" and value is not None]
    told += [f"{(names or {}).get(task, task)} {accuracy:.1%}" for task, accuracy in accuracies.items()]
    return f"{event['message']}: {', '.join(told)}" if told else str(event["message"])


def names_of_tasks(client: Client, job: JsonObject) -> dict[str, str]:
    """Return the names of the data sets that a patch's job is about, by id."""
    if not str(job["subject_id"]).startswith("pt_"):
        return {}
    try:
        asked = client.patch(job["subject_id"])["request"]
        return {each: str(client.dataset(each)["name"]) for each in (*asked["tasks"], *asked["supported"])}
    except ApiError:  # one of them is gone: ids do as well
        return {}


def _describe(name: str, value: Any) -> str:
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{shown} images/s" if name == "images_per_second" else f"{_NAMES.get(name, name)} {shown}"
