"""Annotations that Label Studio reports, as feedback on the version that answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from paintbox_client import Client
from paintbox_label_studio.images import Images
from paintbox_label_studio.labelling import Question, read_questions
from paintbox_label_studio.predictions import ask, image_of
from paintbox_label_studio.settings import Settings

CHANGED = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED")
DELETED = ("ANNOTATIONS_DELETED", "ANNOTATION_DELETED")
_RECENT = 1000


@dataclass(frozen=True)
class Outcome:
    """What became of an event: ids of feedback that was stored and dismissed, and why nothing was, if so."""

    sent: tuple[str, ...] = ()
    dismissed: tuple[str, ...] = ()
    reason: str = ""


class Annotations:
    """Turns events of annotations into feedback: the image, the label that was chosen, and the answer."""

    def __init__(self, client: Client, settings: Settings, images: Images) -> None:
        self._client = client
        self._settings = settings
        self._images = images

    def handle(self, event: dict[str, Any]) -> Outcome:
        """Return what became of an event.

        An annotation that agrees with the version's answer is only sent with `sends_all`. One that was changed or
        deleted takes back the open feedback that it brought earlier.

        Raises:
            ClientError: The image cannot be read, or the service refuses.
        """
        action = event.get("action")
        if action in DELETED:
            listed = event.get("annotations") or [event.get("annotation") or {}]
            ids = [each.get("id") for each in listed if isinstance(each, dict)]
            return Outcome(dismissed=tuple(taken for each in ids for taken in self._take_back(each, keep=())))
        annotation, task = event.get("annotation"), event.get("task")
        if action not in CHANGED or not isinstance(annotation, dict) or not isinstance(task, dict):
            return Outcome(reason="not an annotation that was created, changed or deleted")
        if annotation.get("was_cancelled"):
            return Outcome(reason="the annotation was skipped")
        project = event.get("project")
        config = project.get("label_config") if isinstance(project, dict) else None
        questions = read_questions(str(config or ""))
        sent = [stored for each in questions if (stored := self._send(each, annotation, task)) is not None]
        dismissed = self._take_back(annotation.get("id"), keep=sent) if action == "ANNOTATION_UPDATED" else []
        return Outcome(tuple(sent), tuple(dismissed), "" if sent else "nothing to correct")

    def _send(self, question: Question, annotation: dict[str, Any], task: dict[str, Any]) -> str | None:
        """Return the id of the feedback; None if there is no single choice, or it is what the version answers."""
        chosen = _chosen(question, annotation)
        if len(chosen) != 1:
            return None
        image = self._images.read(image_of(task, question))
        answer = ask(self._client, self._settings, question, image)
        if answer.label == chosen[0] and not self._settings.sends_all:
            return None
        note = _note(annotation.get("id"))
        stored = self._client.send_feedback(
            image, label=chosen[0], predicted=answer.label, version=answer.version, note=note
        )
        return str(stored.id)

    def _take_back(self, annotation_id: Any, keep: list[str] | tuple[str, ...]) -> list[str]:
        """Dismiss open feedback of an annotation and return its ids; `keep` stays."""
        note = _note(annotation_id)
        recent = self._client.feedback(_RECENT, state=["open"], source="sent")
        found = [each.id for each in recent if each.note == note and each.id not in keep]
        for each in found:
            self._client.change_feedback(each, state="dismissed")
        return found


def _chosen(question: Question, annotation: dict[str, Any]) -> list[str]:
    """Return the choices of an annotation, as images are compared with them."""
    by_result = {alias: value for value, alias in question.choices.items()}
    results = annotation.get("result")
    values = [
        each.get("value")
        for each in (results if isinstance(results, list) else [])
        if isinstance(each, dict) and each.get("from_name") == question.name
    ]
    named = [
        name
        for value in values
        if isinstance(value, dict)
        for name in (value.get("choices") or [])
        if isinstance(name, str)
    ]
    return [by_result[name] for name in named if name in by_result]


def _note(annotation_id: Any) -> str:
    return f"Label Studio, annotation {str(annotation_id)[:40]}"
