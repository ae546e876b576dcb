"""In what precisions a version may be served, fastest first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from app.models.runner import measure_seconds
from contract.precision import PrecisionCheck
from paint_core.config.precision import ServingPrecision, WantedPrecision, has_bf16, has_int8
from paint_core.models import BaseModel
from paint_core.programs import Program

_LEAST_SPEEDUP = 1.1  # below, a copy of the weights is not worth its memory
_LOWER: tuple[ServingPrecision, ...] = ("int8", "bf16")


class Choice(NamedTuple):
    """Lower precisions to try in turn, and why others are not among them."""

    candidates: tuple[ServingPrecision, ...]
    refused: Mapping[ServingPrecision, str]


class PrecisionChooser:
    """Knows what this processor computes fast, measured once for each base.

    Args:
        installation: The configured precision.
    """

    def __init__(self, installation: WantedPrecision) -> None:
        self._installation = installation
        self._seconds: dict[str, Mapping[ServingPrecision, float]] = {}

    def choose(
        self,
        base: BaseModel,
        program: Program | None,
        checks: Sequence[PrecisionCheck] | None,
        wanted: WantedPrecision | None = None,
    ) -> Choice:
        """Return what to try for a version: a lower precision only if the version was shown to keep its answers there.

        Args:
            base: Its base.
            program: Of the base's tower, if it has one.
            checks: What was compared when a job made its weights; None: no job did, and the probe images are all there
                is to show it.
            wanted: The precision that was chosen for this version; None: the installation's.
        """
        wanted = wanted or self._installation
        lower = _LOWER if wanted == "auto" else () if wanted == "fp32" else (wanted,)
        refused = {each: reason for each in lower if (reason := _why_not(each, base, program, checks))}
        candidates = [each for each in lower if each not in refused]
        if wanted == "auto" and candidates and base.device.type == "cpu":
            seconds = self._measure(base, program)
            most = seconds.get("fp32", math.inf) / _LEAST_SPEEDUP
            slow = [each for each in candidates if seconds.get(each, math.inf) > most]
            refused |= {each: f"{each} is not faster on this processor" for each in slow}
            candidates = sorted((each for each in candidates if each not in slow), key=lambda each: seconds[each])
        return Choice(tuple(candidates), refused)

    def _measure(self, base: BaseModel, program: Program | None) -> Mapping[ServingPrecision, float]:
        if base.fingerprint not in self._seconds:
            tried: dict[ServingPrecision, Program | None] = {"fp32": program}
            if has_bf16(base.device):
                tried["bf16"] = None
            if program is not None and has_int8(base.device):
                tried["int8"] = program
            self._seconds[base.fingerprint] = measure_seconds(base, tried)
        return self._seconds[base.fingerprint]


def _why_not(
    precision: ServingPrecision, base: BaseModel, program: Program | None, checks: Sequence[PrecisionCheck] | None
) -> str | None:
    if precision == "bf16" and not has_bf16(base.device):
        return "this processor has no bf16 instructions"
    if precision == "int8" and not has_int8(base.device):
        return "this processor has no int8 instructions"
    if precision == "int8" and program is None:
        return "int8 needs a tower that ONNX Runtime can run, and the extra paintbox[onnx]"
    check = next((each for each in checks or () if each.precision == precision), None)
    if check is not None and not check.accepted:
        return f"{precision} changes its answers: {check.reason}"
    if check is None and checks is not None and base.device.type == "cpu":
        return f"its answers in {precision} have not been compared with those in fp32"
    return None
