"""The programs of an installation: the starter's is bundled, others are made when first asked for, and kept."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import tempfile
import threading
from pathlib import Path

import structlog
from torch import nn

from paint_core import starter
from paint_core.images.preprocess import Preprocess
from paint_core.models import BaseModel
from paint_core.programs.program import Program

_FORMAT = 1
_NEEDED = ("onnxruntime", "onnx", "onnxscript")
_found: dict[str, Program | None] = {}
"""By architecture, for as long as the process lives: graphs without weights take some 200 kB."""
_keys: dict[str, str] = {}
"""Architectures by fingerprint of a base: describing one takes milliseconds, and each swap asks."""
_lock = threading.Lock()
_log = structlog.get_logger(__name__)


class ProgramStore:
    """Finds the program of a base, by the architecture of its tower.

    Args:
        folder: where programs are kept; made if it is not there. None: nothing is kept.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def find(self, base: BaseModel) -> Program | None:
        """Return the program of a base, made now if need be, which takes seconds; None: it has none.

        It has none if the extra `onnx` is not installed or its tower cannot be converted, which the log says, and on a
        GPU.
        """
        if base.device.type != "cpu":
            return None
        with _lock:
            key = _keys.get(base.fingerprint)
            if key is None:
                key = _keys[base.fingerprint] = architecture(base.visual, base.preprocess)
            if key not in _found:
                _found[key] = self._load(key) or self._make(key, base)
            return _found[key]

    def _load(self, key: str) -> Program | None:
        if importlib.util.find_spec("onnxruntime") is None:
            return None
        for folder in filter(None, (starter.program_dir(), self._folder)):
            try:
                return Program.load(folder / key)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError):
                _log.warning("program not read; it is made again", folder=str(folder / key), exc_info=True)
        return None

    def _make(self, key: str, base: BaseModel) -> Program | None:
        tower = type(base.visual).__name__
        if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
            cause = f"{', '.join(missing)} not installed; install paintbox[onnx]"
            _log.info("tower runs in PyTorch", tower=tower, cause=cause)
            return None
        from paint_core.programs.conversion import convert

        try:
            program = convert(base.visual, base.preprocess)
        except Exception as error:  # a tower that cannot be converted runs as it is
            cause = f"{type(error).__name__}: {str(error)[:200]}"
            _log.info("tower runs in PyTorch", tower=tower, cause=cause)
            return None
        if self._folder is not None:
            try:
                save(program, self._folder / key)
            except OSError:
                _log.warning("program not kept", folder=str(self._folder), exc_info=True)
        return program


def save(program: Program, folder: Path) -> None:
    """Write a program's folder, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
    program.save(partial)
    try:
        partial.rename(folder)
    except OSError:  # another process was first
        for path in partial.iterdir():
            path.unlink()
        partial.rmdir()
        if not folder.exists():
            raise


def architecture(visual: nn.Module, preprocess: Preprocess) -> str:
    """What a program depends on, as 32 hexadecimal digits: everything about a tower but the values of its weights."""
    tensors = dict(visual.named_parameters()) | dict(visual.named_buffers())
    shapes = [(name, list(tensor.shape), str(tensor.dtype)) for name, tensor in tensors.items()]
    described = [_FORMAT, repr(visual), shapes, preprocess.size, preprocess.mean, preprocess.std]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:32]
