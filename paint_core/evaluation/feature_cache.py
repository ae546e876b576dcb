"""Features of the unpatched model, kept between patches: every patch of a base needs the same ones at alpha 0.

A search begins at theta_0, and a report compares with it. Which supported tasks stand for the model's users rarely
changes, so their features at theta_0 are computed once for a base and read ever after.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from paint_core.config.precision import Precision
from paint_core.models import BaseModel
from paint_core.weights.checks import is_finite

_NAME, _DIGEST = "features", "sha256"


class FeatureCache(Protocol):
    """Where features are kept."""

    def features(self, key: str, compute: Callable[[], Tensor]) -> Tensor:
        """The cached features of a key, or those that `compute` returns, which are then cached.

        Args:
            compute: returns float32 [N, D]; called at most once.

        Returns:
            float32 [N, D] on the CPU.
        """
        ...


class FolderFeatureCache:
    """One safetensors file per key, in a folder that several processes may share.

    Each file contains a SHA-256 of its features. Features that do not match it, cannot be read or are not finite are
    computed again. A full disk is not an error: only time is lost.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        """A cache in a folder.

        Args:
            folder: created on the first write, readable by its owner only.
            limit_bytes: of all files together; the least recently used go first.
        """
        self._folder = folder
        self._limit_bytes = limit_bytes

    def features(self, key: str, compute: Callable[[], Tensor]) -> Tensor:
        """The features of a key, from its file or computed now."""
        path = self._folder / f"{key}.safetensors"
        found = _read(path, key)
        if found is None:
            found = compute().detach().cpu().clone()
            if is_finite(found):
                self._keep(path, safetensors.torch.save({_NAME: found}, {_DIGEST: _digest(key, found)}))
        return found

    def _keep(self, path: Path, data: bytes) -> None:
        if len(data) > self._limit_bytes:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._make_room(len(data))
            # Not synced: the digest detects a file that a power cut has damaged.
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".", delete=False) as file:
                try:
                    file.write(data)
                    file.flush()
                    _touch(Path(file.name))
                    os.replace(file.name, path)
                finally:
                    Path(file.name).unlink(missing_ok=True)
        except OSError:
            return

    def _make_room(self, num_bytes: int) -> None:
        files = sorted(((path.stat(), path) for path in self._folder.iterdir()), key=lambda pair: pair[0].st_mtime_ns)
        total = sum(stat.st_size for stat, _ in files)
        for stat, path in files:
            if total + num_bytes <= self._limit_bytes:
                return
            path.unlink(missing_ok=True)
            total -= stat.st_size


def features_key(base: BaseModel, images: Tensor, precision: Precision, device: torch.device | str) -> str:
    """A key of everything that determines the features of theta_0: weights, preprocessing, pixels and arithmetic.

    Args:
        images: uint8 [N, S, S, 3].
    """
    facts = [base.fingerprint, precision, torch.device(device).type, torch.__version__, list(images.shape)]
    digest = hashlib.sha256(json.dumps(facts).encode())
    digest.update(images.contiguous().cpu().numpy().data)
    return digest.hexdigest()


def find_damaged_files(folder: Path) -> Iterator[Path]:
    """The files of a cache that it would not use, one after the other; none if there is no such folder."""
    for path in sorted(folder.glob("[!.]*.safetensors")):
        if _load(path, path.stem) is None and path.exists():
            yield path


def _read(path: Path, key: str) -> Tensor | None:
    """The features in a file, which has been used now, if they are those that were kept there under this key."""
    found = _load(path, key)
    try:
        _touch(path)
    except OSError:  # it is not there
        return None
    return found


def _load(path: Path, key: str) -> Tensor | None:
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            stated, found = (file.metadata() or {}).get(_DIGEST), file.get_tensor(_NAME).clone()
    except (OSError, safetensors.SafetensorError):
        return None
    return found if stated == _digest(key, found) and is_finite(found) else None


def _digest(key: str, features: Tensor) -> str:
    """SHA-256 of features, their form and what they are kept under."""
    digest = hashlib.sha256(json.dumps([key, str(features.dtype), list(features.shape)]).encode())
    digest.update(features.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _touch(path: Path) -> None:
    now = time.time_ns()  # the kernel's own stamps may be milliseconds apart
    os.utime(path, ns=(now, now))
