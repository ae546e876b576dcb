"""Two versions in a running service that nobody trained: one made-up task vector, mixed in twice as strongly once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import torch

from paint_core.models import BaseModel
from paint_core.weights import save_task_vector
from registry.blob_stores import open_blobs
from registry.database import Database
from registry.settings import StorageSettings
from registry.versions import Versions

COEFFICIENTS = (0.5, 1.0)
_SIZE = 0.1
_ORDINARY_SECONDS = 60.0


class Service:
    """A running service, asked one thing after the other.

    Args:
        port: Where it listens.
    """

    def __init__(self, port: int) -> None:
        self._http = httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=_ORDINARY_SECONDS)

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def compose(self, sha256: str, coefficient: float) -> int:
        """Return the id of a new version with one term."""
        term = {"task_vector_sha256": sha256, "coefficient": coefficient}
        body = {"name": f"times {coefficient}", "terms": [term]}
        version = self._http.post("/v1/versions", json=body).raise_for_status().json()["id"]
        assert isinstance(version, int)
        return version

    def activate(self, version: int) -> int:
        """Let `active` name the version, and return the status of the answer; 0: none came."""
        try:
            return self._http.put("/v1/aliases/active", json={"version": version}).status_code
        except httpx2.TransportError:
            return 0

    def store_labels(self, labels: Sequence[str]) -> str:
        """Return the id of a label set."""
        identifier = self._http.post("/v1/label-sets", json={"labels": list(labels)}).raise_for_status().json()["id"]
        assert isinstance(identifier, str)
        return identifier

    def cosines(self, images: Sequence[bytes], labels: Sequence[str]) -> list[dict[str, float]]:
        """Return the cosine of every label with each image, by the version that is active."""
        found = []
        for image in images:
            files = [("images", ("image.jpg", image, "image/jpeg"))]
            answer = self._http.post("/v1/classify", files=files, data={"candidate_labels": list(labels)})
            (result,) = answer.raise_for_status().json()["results"]
            found.append({each["label"]: each["cosine"] for each in result["predictions"]})
        return found


def make_task_vector(base: BaseModel) -> bytes:
    """Return a file with an update of the base's image tower that changes every answer."""
    generator = torch.Generator().manual_seed(0)
    tau = {
        name: _SIZE * tensor.abs().mean() * torch.randn(tensor.shape, generator=generator)
        for name, tensor in base.visual.state_dict().items()
        if tensor.is_floating_point()
    }
    return save_task_vector(tau, {})


def register_task_vector(data_dir: Path, base: BaseModel) -> str:
    """Put a task vector into an installation whose service has started once, as a worker would; return its hash."""
    settings = StorageSettings.load(data_dir=data_dir)
    content = make_task_vector(base)
    sha256 = open_blobs(settings).put_bytes(content)
    database = Database(settings.resolved_database_url)
    details: dict[str, Any] = {"num_bytes": len(content), "relative_norm": _SIZE, "job_id": "job_benchmark"}
    with database.write() as session:
        Versions(session).add_task_vector(sha256=sha256, base_fingerprint=base.fingerprint, **details)
    database.close()
    return sha256
