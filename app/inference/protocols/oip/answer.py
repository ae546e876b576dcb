"""From what a version says of images to the body of an infer response."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import Response
from numpy.typing import NDArray
from pydantic_core import to_json

from app.inference.classify.service import Classified
from app.inference.image_requests import PRECISION_HEADER, VERSION_HEADER
from app.inference.protocols.oip.question import Output, Question, Wanted
from app.inference.protocols.oip.schemas import MODEL_NAME
from app.inference.protocols.oip.tensors import BINARY_SIZE, BYTES, join_elements

HEADER_LENGTH = "Inference-Header-Content-Length"


def render(classified: Classified, question: Question) -> Response:
    """Return the answer with the tensors that were asked for.

    Args:
        classified: What the version says.
        question: What was asked.

    Returns:
        JSON; with binary tensors after it, if some were asked for so.
    """
    version, precision = str(classified.model.version_id), classified.model.precision.precision
    tensors, parts = [], []
    for wanted in question.outputs:
        described, binary = _describe(wanted, _elements(wanted, classified, question))
        tensors.append(described)
        parts.append(binary)
    answer: dict[str, Any] = {"model_name": MODEL_NAME, "model_version": version, "outputs": tensors}
    if question.identifier is not None:
        answer["id"] = question.identifier
    header, headers = to_json(answer), {VERSION_HEADER: version, PRECISION_HEADER: precision}
    if not any(wanted.binary for wanted in question.outputs):
        return Response(header, headers=headers, media_type="application/json")
    headers[HEADER_LENGTH] = str(len(header))
    return Response(b"".join([header, *parts]), headers=headers, media_type="application/octet-stream")


def _elements(wanted: Wanted, classified: Classified, question: Question) -> NDArray[Any]:
    if wanted.output is Output.LABELS:
        return np.array(classified.labels.classnames, dtype=object)
    values = _values(wanted.output, classified, question)
    if wanted.num_best:
        return _name_best(values, classified.labels.classnames, wanted.num_best)
    return values


def _values(output: Output, classified: Classified, question: Question) -> NDArray[np.float32]:
    judged = classified.judged
    if output is Output.EMBEDDING:
        features: NDArray[np.float32] = judged.scored.features.numpy()
        return features
    if output is Output.COSINES:
        return judged.cosines()
    return judged.scores(multi_label=question.options.multi_label)


def _name_best(values: NDArray[np.float32], labels: tuple[str, ...], num_best: int) -> NDArray[Any]:
    """Return `value:index:label` of the best of each row, as Triton writes them."""
    orders = np.argsort(-values, axis=1, kind="stable")[:, :num_best]
    pairs = zip(values, orders, strict=True)
    rows = [[f"{row[index]:f}:{index}:{labels[index]}" for index in order] for row, order in pairs]
    return np.array(rows, dtype=object)


def _describe(wanted: Wanted, elements: NDArray[Any]) -> tuple[dict[str, Any], bytes]:
    """Return the tensor as JSON has it, and what it has after the JSON."""
    is_text = elements.dtype == object
    described: dict[str, Any] = {
        "name": wanted.output.value,
        "datatype": BYTES if is_text else "FP32",
        "shape": list(elements.shape),
    }
    if not wanted.binary:
        return described | {"data": elements.ravel().tolist()}, b""
    binary = _pack(elements) if is_text else elements.astype("<f4", copy=False).tobytes()
    return described | {"parameters": {BINARY_SIZE: len(binary)}}, binary


def _pack(texts: NDArray[Any]) -> bytes:
    return join_elements(text.encode() for text in texts.ravel().tolist())
