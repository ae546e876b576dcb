"""Exporting a version in another package's format, in a process of its own.

Importing that package and tracing a tower take seconds of the interpreter's lock and as much memory as the model, which
a process that serves requests cannot spare. So the version is written as a folder of open_clip, whose weights the other
process maps from the file, and is converted from there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog
import torch

from paint_core.errors import ExportError, PaintCoreError
from paint_core.exporting import ExportFormat, Label, write_export
from paint_core.models import load_base
from pipeline.programs import ProgramStore

LIMIT_SECONDS = 900.0
_QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Order:
    """What the other process is to do.

    Attributes:
        source: A folder that open_clip loads.
        target: An empty folder.
        format: What to write into it.
        probe: Float [4, D]: the features of the probe images that are stored with the version.
        programs: Folder in which programs of towers are kept.
        labels: Whose head to write too, where the format has a place for it.
    """

    source: Path
    target: Path
    format: ExportFormat
    probe: Sequence[Sequence[float]]
    programs: Path
    labels: tuple[Label, ...] = ()

    def to_json(self) -> str:
        """Return text that `from_json` reads."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Order:
        """Return what `to_json` wrote."""
        read = json.loads(text)
        labels = tuple(Label(each["name"], tuple(each["templates"])) for each in read["labels"])
        paths = {name: Path(read[name]) for name in ("source", "target", "programs")}
        return cls(**{**read, **paths, "labels": labels})


class ConversionError(Exception):
    """The other package computes other features, or the process failed; the message says why."""


def convert(order: Order, limit_seconds: float = LIMIT_SECONDS) -> None:
    """Carry out an order in a new process, which ends with this one.

    Raises:
        ExportError: The format does not work for this model.
        ConversionError: The other package does not compute the version's features, or the process failed.
    """
    path = order.target.with_name(f"{order.target.name}.json")
    path.write_text(order.to_json(), encoding="utf-8")
    status, out, err = _run([sys.executable, "-m", "pipeline.export_process", str(path)], limit_seconds)
    path.unlink()
    answer = _read_answer(out)
    if answer is None:
        _log.error("export process failed", status=status, stderr=err[-2000:])
        raise ConversionError(f"the process ended with status {status}")
    if answer["code"] == ExportError.code:
        raise ExportError(answer["detail"], answer["usable"])
    if answer["code"] is not None:
        raise ConversionError(answer["detail"])
    _log.info("version converted", format=order.format, cosine=answer["cosine"])


def carry_out(order: Order) -> dict[str, Any]:
    """Write the export in this process, and return what the other one is told of it."""
    try:
        base = load_base(order.source)
        program = ProgramStore(order.programs).find(base) if order.format in ("onnx", "openvino") else None
        probe = torch.tensor(order.probe)
        cosine = write_export(order.target, base, order.format, probe, program=program, labels=order.labels)
    except ExportError as error:
        return {"code": error.code, "detail": error.reason, "usable": error.usable}
    except PaintCoreError as error:
        return {"code": error.code, "detail": str(error)}
    return {"code": None, "cosine": cosine}


def _run(command: Sequence[str], limit_seconds: float) -> tuple[int, str, str]:
    """Run a command whose standard input stays open as long as this process lives; return its status and outputs."""
    with _open_pipe() as reading:
        environment = os.environ | _QUIET
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=reading, stdout=pipe, stderr=pipe, env=environment) as process:
            try:
                out, err = process.communicate(timeout=limit_seconds)
            except subprocess.TimeoutExpired as error:
                raise ConversionError(f"it takes more than {limit_seconds:g} seconds") from error
            finally:
                process.kill()  # an ended one is left alone
    return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")


@contextmanager
def _open_pipe() -> Iterator[int]:
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


def _read_answer(out: str) -> dict[str, Any] | None:
    """Return the answer of the process, which is the last line that it prints; None: it gave none."""
    try:
        answer = json.loads(_last_line(out))
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and "code" in answer else None


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:2000] if lines else ""
