"""How good a model is on the images of one split, as reports and evaluations hold it."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from pydantic import Field

from contract.recorded import Recorded

TaskRole = Literal["patching", "supported"]
"""Role of a task in a patch: `patching`, to be improved; `supported`, must not get worse."""

_POINTS = "percentage points of top-1 accuracy"


class SplitScore(Recorded):
    """The score of one model on the images of one split."""

    correct: int | float = Field(
        description="Number of images whose best class is their label, 0 to `total`. With folds the mean over "
        "their models, which may be a fraction"
    )
    total: int = Field(description="Number of images in the split, at least 1")
    accuracy: float | None = Field(default=None, description="Top-1 accuracy, `correct / total`, 0 to 1")
    low: float | None = Field(
        default=None, description="Lower end of the accuracy's 95 % confidence interval (Wilson), 0 to 1"
    )
    high: float | None = Field(
        default=None, description="Upper end of the accuracy's 95 % confidence interval (Wilson), 0 to 1"
    )
    loss: float | None = Field(default=None, description="Mean cross-entropy in nats, at least 0")
    ece: float | None = Field(
        default=None, description="Expected calibration error over 15 equally wide bins, 0 to 1; 0 is calibrated"
    )
    correct_top5: int | float | None = Field(
        default=None, description="Number of images whose label is among the five best classes, 0 to `total`"
    )
    balanced_accuracy: float | None = Field(
        default=None,
        description="Mean over the classes that have images of the share classified correctly, 0 to 1; null: an older "
        "release scored",
    )
    macro_f1: float | None = Field(
        default=None, description="Mean F1 over the classes that have images, 0 to 1; null as before"
    )
    lost: int | None = Field(
        default=None,
        description="On a curve: number of images that the base classifies correctly and this model does not",
    )
    gained: int | None = Field(
        default=None,
        description="On a curve: number of images that this model classifies correctly and the base does not",
    )

    @staticmethod
    def exact(count: float) -> int | Fraction:
        """Return the exact count: a mean over the models of up to ten folds, which JSON stores as a float."""
        return count if isinstance(count, int) else Fraction(count).limit_denominator(10)


class AccuracyChange(Recorded):
    """The accuracy of the patched model minus that of the base, on the same images."""

    change_points: float = Field(description=f"The change, in {_POINTS}, -100 to 100; negative if it got worse")
    low_points: float = Field(description=f"Lower end of the change's 95 % confidence interval, in {_POINTS}")
    high_points: float = Field(description=f"Upper end of the change's 95 % confidence interval, in {_POINTS}")
    p_value: float = Field(
        description="Two-sided p-value of the hypothesis that both models are equally good, 0 to 1; below 0.05 exactly "
        "if the interval leaves 0 out"
    )


class ClassAccuracyChange(AccuracyChange):
    """The change on the images of one class."""

    classname: str = Field(description="The class")
    total: int = Field(description="Number of images of the class, at least 1")
    before: int = Field(description="Number of them that the base classifies correctly, 0 to `total`")
    after: int = Field(description="Number of them that the patched model classifies correctly, 0 to `total`")
    before_interval: tuple[float, float] = Field(
        description="95 % confidence interval (Wilson) of the accuracy before, each end 0 to 1"
    )
    after_interval: tuple[float, float] = Field(
        description="95 % confidence interval (Wilson) of the accuracy after, each end 0 to 1"
    )
    adjusted_p_value: float | None = Field(
        default=None,
        description="`p_value` corrected for the number of classes, 0 to 1: look at this one when you compare classes",
    )


class TaskAccuracyChange(AccuracyChange):
    """The change on all images of a test split, and class by class."""

    classes: tuple[ClassAccuracyChange, ...] = Field(description="By class, the most certain changes first")


class AlphaPoint(Recorded):
    """One point of a curve: the validation scores at one alpha."""

    alpha: float = Field(description="Mixing coefficient, at least 0; 0 is the base, 1 the fine-tuned weights")
    combined: float | None = Field(
        default=None, description="Mean of `patching` and `supported`, 0 to 1: what rule `combined` maximises"
    )
    patching: float | None = Field(default=None, description="Mean accuracy of the tasks to improve, 0 to 1")
    supported: float | None = Field(
        default=None, description="Mean accuracy of the supported tasks, 0 to 1; null: there are none"
    )
    measured: bool = Field(
        default=True, description="Whether this alpha was evaluated; false: predicted from interpolated features"
    )
    tasks: dict[str, SplitScore] = Field(description="Score of each task on its validation split, by data set id")
