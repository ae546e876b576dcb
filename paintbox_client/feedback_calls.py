"""The part of the client for feedback on answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from paintbox_client.images import Image, read_image
from paintbox_client.records import JsonObject
from paintbox_client.resources.feedback import CorrectionsDataset, FeedbackErased, FeedbackResource
from paintbox_client.transport import Transport

_IMAGE_SECONDS = 60.0


class FeedbackCalls:
    """Methods of `Client` for feedback."""

    _transport: Transport

    def send_feedback(
        self,
        image: Image | None = None,
        *,
        label: str | None = None,
        predicted: str | None = None,
        version: int | str | None = None,
        note: str | None = None,
        dataset: str | None = None,
        split: str | None = None,
        row: int | None = None,
        sample: str | None = None,
    ) -> FeedbackResource:
        """Report a wrong answer and return the stored feedback; the same image and label are stored once.

        Args:
            image: A path, bytes, a PIL image or a NumPy array; or name a stored image in place of it.
            label: The right label; None: unknown.
            predicted: The label that was answered.
            version: Id or alias of the version that answered; default: `active`.
            note: Remark, on one line.
            dataset: Id of a data set, with `split` and `row` of the image.
            split: Split of the image.
            row: Row of the image in the split, from 0.
            sample: Id of other feedback with the image.
        """
        fields: JsonObject = {"label": label, "predicted": predicted, "version": version, "note": note}
        fields |= {"dataset": dataset, "split": split, "row": row, "sample": sample}
        given = {name: value for name, value in fields.items() if value is not None}
        sent: JsonObject = {"json": given}
        if image is not None:
            form = {name: str(value) for name, value in given.items()}
            sent = {"data": form, "files": [("images", read_image(0, image))]}
        return FeedbackResource(self._transport.send("POST", "/v1/feedback", may_repeat=True, **sent))

    def feedback(self, limit: int = 100, **filters: Any) -> list[FeedbackResource]:
        """Return at most `limit` of the newest feedback, newest first.

        Filters are `state` (one or a list), `label`, `labelled`, `predicted`, `version`, `source` and `owner`.
        """
        return [FeedbackResource(each) for each in self._transport.items("/v1/feedback", limit, **filters)]

    def one_feedback(self, feedback_id: str) -> FeedbackResource:
        """Return feedback by its id."""
        return FeedbackResource(self._transport.get(f"/v1/feedback/{feedback_id}"))

    def feedback_image(self, feedback_id: str, size: int = 128) -> bytes:
        """Return a thumbnail of the image of feedback, a WebP file; `size` is 64, 128, 256 or 512 pixels."""
        path = f"/v1/feedback/{feedback_id}/image?size={size}"
        with self._transport.download(path, _IMAGE_SECONDS) as stream:
            return stream.read()

    def change_feedback(self, feedback_id: str, **changes: Any) -> FeedbackResource:
        """Return feedback with another `label`, `state` (`open`, `accepted`, `dismissed`) or `note`."""
        return FeedbackResource(self._transport.send("PATCH", f"/v1/feedback/{feedback_id}", json=changes))

    def delete_feedback(self, feedback_id: str) -> FeedbackErased:
        """Delete feedback and its image, unless other feedback refers to the image."""
        return FeedbackErased(self._transport.send("DELETE", f"/v1/feedback/{feedback_id}"))

    def delete_matching_feedback(self, **filters: Any) -> FeedbackErased:
        """Delete all feedback that passes the filters, of which there must be one; they are those of `feedback`."""
        erased: JsonObject = {"deleted": 0, "files_deleted": 0, "datasets": [], "has_more": True}
        while erased["has_more"]:
            part = self._transport.send("DELETE", "/v1/feedback", may_repeat=True, params=filters)
            erased = {
                "deleted": erased["deleted"] + part["deleted"],
                "files_deleted": erased["files_deleted"] + part["files_deleted"],
                "datasets": sorted({*erased["datasets"], *part["datasets"]}),
                "has_more": part["has_more"] and part["deleted"] > 0,
            }
        return FeedbackErased(erased)

    def create_dataset_from_feedback(
        self,
        name: str,
        ids: Sequence[str] | None = None,
        templates: Sequence[str] = (),
        classnames: Mapping[str, str] | None = None,
        webhook_url: str | None = None,
        **filters: Any,
    ) -> CorrectionsDataset:
        """Return the data set that is being made from feedback with a label, and the patch to ask for next.

        Args:
            name: Display name; need not be unique.
            ids: Ids of the feedback; default: all that the filters let pass.
            templates: Prompts with `{}`; default: the base model's own.
            classnames: From class to the name that prompts use.
            webhook_url: Notified when the job has ended, at a host that the operator allows.
            **filters: `state` (a list of `open` and `accepted`), `label`, `predicted`, `version`, `source`, `owner`.

        Returns:
            `dataset`, whose job is to be waited for, `num_images` by split, and `patch`: the fields of `create_patch`.
        """
        body: JsonObject = {"name": name, "ids": None if ids is None else list(ids), "filter": filters or None}
        body |= {"templates": list(templates), "classnames": dict(classnames or {}), "webhook_url": webhook_url}
        answer = self._transport.send("POST", "/v1/datasets/from-feedback", may_repeat=True, json=body)
        return CorrectionsDataset(answer, self._transport)
