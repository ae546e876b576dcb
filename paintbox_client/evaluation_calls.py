"""Methods of the client for evaluations and predictions."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paintbox_client.errors import InputError
from paintbox_client.resources.evaluations import (
    EvaluationBrief,
    EvaluationResource,
    EvaluationStarted,
    ImagePrediction,
)
from paintbox_client.transport import Transport

_PAGE = 1000
_DOWNLOAD_SECONDS = 600.0
_CHUNK_BYTES = 1 << 20


class EvaluationCalls:
    """Methods of `Client` for evaluations."""

    _transport: Transport

    def create_evaluation(self, idempotency_key: str | None = None, **request: Any) -> EvaluationStarted:
        """Return the new evaluation and its job, as `{"evaluation": …, "job": …}`.

        Args:
            idempotency_key: As for `create_patch`.
            **request: Body of `POST /v1/evaluations`: `versions`, `dataset`, `split`, `labels`, `templates`, `name`.
        """
        headers = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
        answer = self._transport.send("POST", "/v1/evaluations", may_repeat=True, json=request, headers=headers)
        return EvaluationStarted(answer, self._transport)

    def evaluation(self, evaluation_id: str) -> EvaluationResource:
        """Return an evaluation, with its report once it is done."""
        return EvaluationResource(self._transport.get(f"/v1/evaluations/{evaluation_id}"), self._transport)

    def evaluations(self, limit: int = 100, **filters: Any) -> list[EvaluationBrief]:
        """Return at most `limit` evaluations without reports, newest first.

        Filters are `dataset`, `status`, `ref`, `name`, `owner` and `since`.
        """
        return [
            EvaluationBrief(each, self._transport)
            for each in self._transport.items("/v1/evaluations", limit, **filters)
        ]

    def delete_evaluation(self, evaluation_id: str) -> None:
        """Delete an evaluation with its job, and the predictions that no other evaluation refers to."""
        self._transport.send("DELETE", f"/v1/evaluations/{evaluation_id}")

    def predictions(
        self, evaluation_id: str, version: int | None = None, limit: int | None = None, **filters: Any
    ) -> Iterator[ImagePrediction]:
        """Yield the predictions of a version, in the order of the images.

        Args:
            evaluation_id: The evaluation, which is done.
            version: One of its versions; default: the first one.
            limit: Maximum number; None: all.
            **filters: `wrong`, `label`, `predicted`, `changed`.
        """
        query = {name: value for name, value in {"version": version, **filters}.items() if value is not None}
        path = f"/v1/evaluations/{evaluation_id}/predictions"
        left = limit
        while left is None or left > 0:
            page = self._transport.get(path, limit=_PAGE if left is None else min(left, _PAGE), **query)
            yield from map(ImagePrediction, page["items"])
            if page["next_cursor"] is None:
                return
            query["cursor"] = page["next_cursor"]
            left = None if left is None else left - len(page["items"])

    def download_predictions(
        self, evaluation_id: str, path: Path, version: int | None = None, file_format: str = "parquet"
    ) -> Path:
        """Write all predictions of a version to a new file, as `parquet` or `csv`, and return its path.

        Raises:
            InputError: The file exists or cannot be written.
        """
        query = f"format={file_format}" + ("" if version is None else f"&version={version}")
        address = f"/v1/evaluations/{evaluation_id}/predictions/file?{query}"
        try:
            with self._transport.download(address, _DOWNLOAD_SECONDS) as stream, path.open("xb") as file:
                while chunk := stream.read(_CHUNK_BYTES):
                    file.write(chunk)
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error}.", "Choose another file.") from error
        return path
