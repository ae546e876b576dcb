"""Where the bundled starter model lies, and how it wants to be fine-tuned. Imports no torch."""

from pathlib import Path
from typing import Final, Literal, TypedDict


class FinetuneDefaults(TypedDict):
    """The fields of `FinetuneConfig` in which the starter differs from the paper."""

    iterations: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    precision: Literal["fp32", "bf16", "auto"]


FINETUNE_DEFAULTS: Final[FinetuneDefaults] = {
    "iterations": 200,
    "batch_size": 64,
    "learning_rate": 8e-4,
    "warmup_steps": 20,
    "precision": "auto",
}
"""It is small and trains in a minute."""

_HERE = Path(__file__).resolve().parent


def model_dir() -> Path:
    """The folder that open_clip loads as `local-dir:FOLDER`."""
    return _HERE


def supported_archives() -> dict[str, Path]:
    """The bundled supported tasks: name to zip of `val/CLASS/*.png` and `test/CLASS/*.png`, sorted by name."""
    return {path.stem: path for path in sorted((_HERE / "supported").glob("*.zip"))}


def anchors_archive() -> Path:
    """The zip of unlabelled images that resemble what the starter was trained on."""
    return _HERE / "anchors.zip"


def program_dir() -> Path:
    """The folder of the tower's program, by the key of its architecture; see `pipeline.programs`."""
    return _HERE / "programs"
