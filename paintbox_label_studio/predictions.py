"""Predictions in the JSON of Label Studio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paintbox_client import Client, ClientError
from paintbox_label_studio.images import ImageError, Images
from paintbox_label_studio.labelling import Question
from paintbox_label_studio.settings import Settings

Task = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """The best label of an image: what it is compared with, its score from 0 to 1, and the version that answered."""

    label: str
    score: float
    version: int


def ask(client: Client, settings: Settings, question: Question, image: bytes) -> Answer:
    """Return the answer of the service to a question about an image; the service keeps no copy."""
    found = client.classify(
        image,
        labels=list(question.choices),
        templates=settings.templates,
        top_k=1,
        keep=False,
        version=settings.version,
    )
    best = found.results[0].predictions[0]
    return Answer(best.label, best.score, found.version)


def predict(
    client: Client, settings: Settings, images: Images, questions: Sequence[Question], tasks: Sequence[Task]
) -> list[dict[str, Any]]:
    """Return one prediction for each task, in their order; one without a result if its image cannot be used.

    Raises:
        ClientError: No task could be answered, for the reason of the first one.
    """
    found: list[dict[str, Any]] = []
    errors: list[ClientError] = []
    for task in tasks:
        try:
            found.append(_predict_one(client, settings, images, questions, task))
        except ClientError as error:
            errors.append(error)
            found.append({"result": [], "score": 0.0, "error": str(error)})
    if tasks and len(errors) == len(tasks):
        raise errors[0]
    return found


def _predict_one(
    client: Client, settings: Settings, images: Images, questions: Sequence[Question], task: Task
) -> dict[str, Any]:
    read: dict[str, bytes] = {}
    results, scores = [], []
    version = 0
    for question in questions:
        if question.key not in read:
            read[question.key] = images.read(image_of(task, question))
        answer = ask(client, settings, question, read[question.key])
        version = answer.version
        scores.append(answer.score)
        results.append(
            {
                "from_name": question.name,
                "to_name": question.image,
                "type": "choices",
                "value": {"choices": [question.choices[answer.label]]},
                "score": answer.score,
            }
        )
    return {"result": results, "score": min(scores), "model_version": name_version(version)}


def image_of(task: Task, question: Question) -> Any:
    """Return what a task says of a question's image.

    Raises:
        ImageError: The task has no data.
    """
    data = task.get("data")
    if not isinstance(data, dict):
        raise ImageError("The task has no data.", "Send tasks as Label Studio does.")
    return data.get(question.key)


def name_version(version: int) -> str:
    """Return what Label Studio calls a version: predictions of another name are made anew."""
    return f"paintbox-{version}"
