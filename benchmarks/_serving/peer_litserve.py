"""LitServe with its batching. `python -m _serving.peer_litserve PORT FOLDER`.

Pictures of a batch are decoded by threads in the hook that LitServe has for it (`batch`). Annotations are objects here:
LitServe looks at that of `decode_request` to know that it is to parse a form.
"""

import json
import os
import sys
from typing import Any

import litserve
from fastapi import Request

# Of 32 images with waits of 0, 5 and 20 ms, and 64 with 5 ms: within 2 % of the best at concurrency 32, the best at 8.
_MAX_BATCH = int(os.environ.get("PEER_MAX_BATCH", "32"))
_BATCH_TIMEOUT = float(os.environ.get("PEER_BATCH_TIMEOUT", "0.005"))
_FAST_QUEUE = os.environ.get("PEER_FAST_QUEUE", "1") == "1"

Asked = tuple[list[bytes], tuple[str, ...], int]


class ClassifyAPI(litserve.LitAPI):  # type: ignore[misc]
    """Classifies images of several requests at once."""

    def setup(self, device: str) -> None:
        """Load the model, in the worker process."""
        from _serving.peer_model import Classifier

        self.classifier = Classifier(sys.argv[2])

    def decode_request(self, request: Request) -> Asked:
        """Return the files and what is asked about them."""
        form: Any = request
        images = [upload.file.read() for upload in form.getlist("images")]
        return images, tuple(json.loads(form["candidate_labels"])), int(form["top_k"])

    def batch(self, inputs: list[Asked]) -> tuple[Any, list[Asked]]:
        """Decode all pictures, side by side."""
        return self.classifier.decode_all([image for images, _, _ in inputs for image in images]), inputs

    def predict(self, x: tuple[Any, list[Asked]]) -> list[Any]:
        """Return the answer to each request."""
        pixels, asked = x
        parts = self.classifier.features(pixels).split([len(images) for images, _, _ in asked])
        return [
            self.classifier.rank(features, labels, top_k)
            for features, (_, labels, top_k) in zip(parts, asked, strict=True)
        ]

    def unbatch(self, output: list[Any]) -> list[Any]:
        """Return the answers."""
        return output

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Return an answer as JSON has it."""
        return {"results": output}


if __name__ == "__main__":
    api = ClassifyAPI(max_batch_size=_MAX_BATCH, batch_timeout=_BATCH_TIMEOUT, api_path="/classify")
    server = litserve.LitServer(api, accelerator="cpu", fast_queue=_FAST_QUEUE)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning", access_log=False
    )
