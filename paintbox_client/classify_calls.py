"""The part of the client that classifies images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paintbox_client.archives import read_image
from paintbox_client.transport import Transport

JsonObject = dict[str, Any]


class ClassifyCalls:
    """What `Client` can do with the version that answers."""

    _transport: Transport

    def classify(
        self,
        images: Sequence[bytes | Path],
        labels: Sequence[str] | None = None,
        dataset: str | None = None,
        templates: Sequence[str] = (),
        top_k: int | None = None,
        key: str | None = None,
    ) -> JsonObject:
        """Return which of the labels each image shows, best first, and the version that answered.

        Args:
            images: Image files, or their bytes.
            labels: What the images may show.
            dataset: In place of `labels`: a data set whose classes are the labels.
            templates: Prompts with `{}`; left out: the label set's own.
            top_k: Most predictions per image; left out: all.
            key: Who asks, of many for whom this client speaks: while there is a canary, the same are answered by it.

        Returns:
            The answer; `results` is in the order of `images`.
        """
        given = {"candidate_labels": labels, "templates": list(templates) or None}
        form: JsonObject = {key: json.dumps(list(value)) for key, value in given.items() if value is not None}
        form |= {key: str(value) for key, value in {"dataset": dataset, "top_k": top_k}.items() if value is not None}
        files = [("images", read_image(index, image)) for index, image in enumerate(images)]
        headers = {} if key is None else {"X-Request-Key": key}
        answer: JsonObject = self._transport.send("POST", "/v1/classify", data=form, files=files, headers=headers)
        return answer
