"""Errors of the library, as one tree.

    PaintCoreError (ValueError)
    ├── ModelRefError            a model reference that cannot be parsed, found or used
    ├── WeightsError             weights that must not be used
    │   ├── UnsafeWeightsError       a format that can run code when it is read (pickle)
    │   ├── WeightsMismatchError     a missing or extra key, another shape or dtype, an unreadable file
    │   ├── NonFiniteWeightsError    a NaN or an infinity
    │   └── BatchNormError           a mix whose running statistics fit none of its ends
    ├── HeadError                classnames or templates from which no zero-shot head can be built
    ├── DatasetError             labelled images that contradict themselves
    │   ├── EmptySplitError          a split without a single image
    │   └── ImageDecodeError         bytes that are no readable image
    ├── ArgumentError            an argument of the wrong type
    ├── ConfigError              a setting out of its range
    │   └── ProfileError             a profile that is not defined for this kind of image tower
    ├── ExportError              a model that a format or package has no place for
    ├── NoAcceptableAlphaError   no alpha keeps the supported tasks above their floor
    ├── NonFiniteLossError       fine-tuning diverged
    └── ProbeError               a model that does not give the features it gave when it was registered

Every class carries a stable `code`; every message says what to do next.
"""

from collections.abc import Sequence
from typing import ClassVar


class PaintCoreError(ValueError):
    """Anything that the library refuses; `code` names it in a stable way."""

    code: ClassVar[str] = "paint_core_error"


class ModelRefError(PaintCoreError):
    """A model reference that cannot be parsed, found or used."""

    code: ClassVar[str] = "model_ref_invalid"


class WeightsError(PaintCoreError):
    """Weights that must not be used."""

    code: ClassVar[str] = "weights_invalid"


class UnsafeWeightsError(WeightsError):
    """Weights in a format that can run code when it is read; only safetensors is."""

    code: ClassVar[str] = "weights_unsafe"


class WeightsMismatchError(WeightsError):
    """Weights that do not fit the model: a missing or extra key, another shape or dtype."""

    code: ClassVar[str] = "weights_mismatch"


class NonFiniteWeightsError(WeightsError):
    """Weights that hold a NaN or an infinity."""

    code: ClassVar[str] = "weights_non_finite"


class BatchNormError(WeightsError):
    """An image tower with BatchNorm, whose running statistics a mix does not give."""

    code: ClassVar[str] = "batch_norm_unsupported"


class HeadError(PaintCoreError):
    """Classnames or templates from which no zero-shot head can be built."""

    code: ClassVar[str] = "head_invalid"


class DatasetError(PaintCoreError):
    """Labelled images that contradict themselves."""

    code: ClassVar[str] = "dataset_invalid"


class EmptySplitError(DatasetError):
    """A split without a single image."""

    code: ClassVar[str] = "split_empty"


class ImageDecodeError(DatasetError):
    """Bytes that are no readable image of an allowed format and size."""

    code: ClassVar[str] = "image_undecodable"


class ArgumentError(PaintCoreError):
    """An argument of the wrong type."""

    code: ClassVar[str] = "argument_invalid"


class ConfigError(PaintCoreError):
    """A setting out of its range."""

    code: ClassVar[str] = "config_invalid"


class ProfileError(ConfigError):
    """A profile that is not defined for this kind of image tower."""

    code: ClassVar[str] = "profile_undefined"


class ExportError(PaintCoreError):
    """A model that cannot be written in a format: its package has no such model, or is not installed.

    `reason` is why, and `usable` holds the formats that work for it, if they are known.
    """

    code: ClassVar[str] = "export_format_unavailable"

    def __init__(self, reason: str, usable: Sequence[str] = ()) -> None:
        super().__init__(f"{reason}: use {' or '.join(usable)}" if usable else reason)
        self.reason, self.usable = reason, tuple(usable)

    def __reduce__(self) -> tuple[type["ExportError"], tuple[str, tuple[str, ...]]]:
        return (type(self), (self.reason, self.usable))


class NoAcceptableAlphaError(PaintCoreError):
    """No alpha above 0 keeps every supported task above its floor.

    `curve` holds the points that were looked at. Their class, `CurvePoint`, is not named here: this module imports
    nothing of the library.
    """

    code: ClassVar[str] = "no_acceptable_alpha"

    def __init__(self, message: str, curve: Sequence[object]) -> None:
        super().__init__(message)
        self.curve = tuple(curve)

    def __reduce__(self) -> tuple[type["NoAcceptableAlphaError"], tuple[str, tuple[object, ...]]]:
        return (type(self), (str(self), self.curve))


class NonFiniteLossError(PaintCoreError):
    """Fine-tuning diverged: at `step`, the `cause` (such as the loss or the gradient's norm) is NaN or infinite."""

    code: ClassVar[str] = "loss_non_finite"

    def __init__(self, step: int, cause: str = "loss") -> None:
        super().__init__(
            f"the {cause} at step {step} is not a finite number: lower `learning_rate`, raise `warmup_steps`, "
            "or use precision 'fp32'"
        )
        self.step, self.cause = step, cause

    def __reduce__(self) -> tuple[type["NonFiniteLossError"], tuple[int, str]]:
        return (type(self), (self.step, self.cause))


class ProbeError(PaintCoreError):
    """A model whose features on the probe images are not the expected ones."""

    code: ClassVar[str] = "probe_failed"
