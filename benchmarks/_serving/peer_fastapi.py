"""A plain FastAPI app: each request by itself in the thread pool. `python -m _serving.peer_fastapi PORT FOLDER`."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any

import torch
import uvicorn
from fastapi import FastAPI, File, Form

from _serving.peer_model import Classifier

# With two threads a forward it answers a sixth less on two cores: its requests are in each other's way.
torch.set_num_threads(int(os.environ.get("PEER_TORCH_THREADS", "1")))
app = FastAPI()
classifier = Classifier(sys.argv[2])


@app.get("/ready")
def ready() -> str:
    """Answer."""
    return "ready"


@app.post("/classify")
def classify(
    images: Annotated[list[bytes], File()], candidate_labels: Annotated[str, Form()], top_k: Annotated[int, Form()] = 5
) -> list[list[dict[str, Any]]]:
    """Classify images."""
    labels = tuple(json.loads(candidate_labels))
    pixels = torch.stack([classifier.decode(image) for image in images])
    return classifier.rank(classifier.features(pixels), labels, top_k)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")
