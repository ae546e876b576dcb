"""The part of the client that classifies and embeds, and stores label sets for that."""

from __future__ import annotations

import base64
import json
import sys
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from paintbox_client.errors import InputError
from paintbox_client.images import Image, batches
from paintbox_client.records import JsonObject
from paintbox_client.resources.inference import Classification, Embeddings, LabelSet
from paintbox_client.transport import Transport

_Batch = Sequence[tuple[str, bytes]]
_LONGEST_QUERY = 2000  # maximum length of options in the URL, for proxies


class ClassifyCalls:
    """Methods of `Client` that classify and embed."""

    _transport: Transport
    _max_parallel: int

    def classify(
        self,
        images: Iterable[Image] | Image,
        labels: Sequence[str] | None = None,
        dataset: str | None = None,
        templates: Sequence[str] = (),
        top_k: int | None = None,
        key: str | None = None,
        *,
        label_set: str | None = None,
        threshold: float | None = None,
        multi_label: bool = False,
        keep: bool = True,
        version: int | str | None = None,
        timeout_ms: int | None = None,
    ) -> Classification:
        """Return the labels of each image, best first, and the version that produced them.

        Args:
            images: One or any number: paths, bytes, PIL images or NumPy arrays. Many are sent in several requests,
                some of them at the same time, to the same version.
            labels: Candidate labels.
            dataset: Instead of `labels`: a data set whose classes are the labels.
            templates: Prompts with `{}`; default: the label set's own.
            top_k: Maximum number of predictions per image; default: all.
            key: Identifies one of many users for whom this client sends requests: requests with the same key are all
                served by the canary, or none.
            label_set: Instead of `labels`: a stored label set.
            threshold: Minimum score of a prediction.
            multi_label: Score each label independently; scores then do not sum to 1.
            keep: Whether the service may keep the images to be labelled, if its operator has turned sampling on.
            version: Id of the version to use, or an alias; default: `active`.
            timeout_ms: Milliseconds after which the service gives up.

        Returns:
            The response; `results` is in the order of `images`.

        Raises:
            InputError: `labels` is a single text, or an image cannot be sent.
        """
        if isinstance(labels, str):
            raise InputError(f"The labels are one text, {labels[:100]!r}.", "Give a list, such as ['cat', 'dog'].")
        options = _texts(
            candidate_labels=None if labels is None else json.dumps(list(labels)),
            label_set=label_set,
            dataset=dataset,
            templates=json.dumps(list(templates)) if templates else None,
            top_k=top_k,
            threshold=threshold,
            multi_label="true" if multi_label else None,
            keep=None if keep else "false",
            version=version,
            timeout_ms=timeout_ms,
        )
        headers = {} if key is None else {"X-Request-Key": key}
        return Classification(self._send_batches("/v1/classify", images, options, headers, "results"))

    def embed(
        self, images: Iterable[Image] | Image, version: int | str | None = None, timeout_ms: int | None = None
    ) -> Embeddings:
        """Return the embedding of each image, a list of numbers of unit length, and the version that produced it.

        Args:
            images: As for `classify`.
            version: Id of the version to use, or an alias; default: `active`.
            timeout_ms: Milliseconds after which the service gives up.

        Returns:
            The response; `embeddings` is in the order of `images`.
        """
        options = _texts(encoding_format="base64", version=version, timeout_ms=timeout_ms)
        return _unpacked(self._send_batches("/v1/embed", images, options, {}, "embeddings"))

    def embed_texts(
        self, texts: Sequence[str], version: int | str | None = None, timeout_ms: int | None = None
    ) -> Embeddings:
        """Return the embedding of each text, without a template; the other arguments are those of `embed`.

        All versions of a base embed texts alike.
        """
        asked: JsonObject = {"texts": list(texts), "version": version, "timeout_ms": timeout_ms}
        return _unpacked(
            self._transport.send("POST", "/v1/embed", may_repeat=True, json=asked | {"encoding_format": "base64"})
        )

    def create_label_set(
        self, labels: Sequence[str], templates: Sequence[str] = (), name: str | None = None
    ) -> LabelSet:
        """Return the stored label set of these labels and templates; the same ones return the same label set.

        Args:
            labels: Distinct labels.
            templates: Prompts with `{}`; default: the base model's own.
            name: Display name.

        Returns:
            The label set; pass its `id` to `classify`.
        """
        body = {"labels": list(labels), "templates": list(templates), "name": name}
        return LabelSet(self._transport.send("POST", "/v1/label-sets", may_repeat=True, json=body))

    def label_set(self, label_set_id: str) -> LabelSet:
        """Return a label set with its labels."""
        return LabelSet(self._transport.get(f"/v1/label-sets/{label_set_id}"))

    def delete_label_set(self, label_set_id: str) -> None:
        """Remove a label set: requests that name it are refused soon after."""
        self._transport.send("DELETE", f"/v1/label-sets/{label_set_id}")

    def _send_batches(
        self,
        path: str,
        images: Iterable[Image] | Image,
        options: Mapping[str, str],
        headers: Mapping[str, str],
        results: str,
    ) -> JsonObject:
        """Return one response for any number of images; `results` is the field with an entry per image."""
        waiting = batches(images)
        answer = self._send_images(path, next(waiting), options, headers)
        pinned = {**options, "version": str(answer["version"])}  # even if another one is activated meanwhile
        send = partial(self._send_images, path, options=pinned, headers=headers)
        for part in _in_parallel(send, waiting, self._max_parallel):
            _extend(answer, part, results)
        return answer

    def _send_images(
        self, path: str, images: _Batch, options: Mapping[str, str], headers: Mapping[str, str]
    ) -> JsonObject:
        """Return the response; a single image is sent as the body itself, which is fastest."""
        if len(images) == 1 and sum(map(len, options.values())) <= _LONGEST_QUERY:
            sent: JsonObject = {
                "content": images[0][1],
                "params": options,
                "headers": {**headers, "Content-Type": "application/octet-stream"},
            }
        else:
            sent = {"data": options, "files": [("images", each) for each in images], "headers": headers}
        answer: JsonObject = self._transport.send("POST", path, may_repeat=True, **sent)
        return answer


def _in_parallel(
    send: Callable[[_Batch], JsonObject], waiting: Iterator[_Batch], max_parallel: int
) -> Iterator[JsonObject]:
    """Yield a response for each batch, in their order; batches are read as they are sent."""
    with ThreadPoolExecutor(max_parallel, "paintbox-client") as pool:
        sent: deque[Future[JsonObject]] = deque()
        try:
            for batch in waiting:
                sent.append(pool.submit(send, batch))
                if len(sent) == max_parallel:
                    yield sent.popleft().result()
            while sent:
                yield sent.popleft().result()
        finally:
            for each in sent:
                each.cancel()


def _extend(answer: JsonObject, part: JsonObject, results: str) -> None:
    """Extend a response by that for further images."""
    offset, timings = len(answer[results]), answer["timing_ms"]
    answer[results] += [each | {"index": each["index"] + offset} for each in part[results]]
    for name, value in part["timing_ms"].items():
        timings[name] = timings.get(name, 0) + value


def _texts(**options: str | float | None) -> dict[str, str]:
    """Return the options that are given, as forms and query strings hold them."""
    return {name: str(value) for name, value in options.items() if value is not None}


def _unpacked(answer: JsonObject) -> Embeddings:
    """Return the response with numbers instead of base64."""
    for each in answer["embeddings"]:
        numbers = array("f", base64.b64decode(each["embedding"]))
        if sys.byteorder == "big":
            numbers.byteswap()
        each["embedding"] = numbers.tolist()
    return Embeddings(answer)
