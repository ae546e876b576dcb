"""Questions about the path of a finished patch, answered from the stored interpolant without running the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from torch import Tensor

from app.http.dependencies import DatabaseDep, built
from app.patches.interpolants import InterpolantsDep, StoredCurve
from app.patches.prediction import predict_point
from app.patches.reselection import stored_report
from app.patches.schemas import ChangedImage, ChangedImages, PatchCurve
from contract.report import ReportStage
from contract.scores import AlphaPoint
from contract.versions import Profile
from paint_core.alpha.changes import AnswerChanges, answer_changes
from registry.datasets import Datasets
from registry.errors import NotFoundError, RequestRefusedError
from registry.paging import decode_cursor, encode_cursor
from registry.patches import Patches

_CURSOR = "changes"
Kind = Literal["lost", "won"]


@dataclass(frozen=True)
class _Search:
    """The last search of a patch along one profile.

    Attributes:
        patch_id: The patch.
        stage: The search, without its curves.
        profile: Of the path.
        stored: The interpolant along it.
        points: The evaluated and predicted points of the report, as they are stored.
    """

    patch_id: str
    stage: ReportStage
    profile: str
    stored: StoredCurve
    points: Sequence[dict[str, Any]]

    def alpha(self, given: float | None) -> float:
        """Return the alpha of a request, by default the chosen one.

        Raises:
            RequestRefusedError: It is beyond the end of the path.
        """
        alpha, end = self.stage.alpha if given is None else given, self.stored.features.nodes[-1]
        if not 0 <= alpha <= end:
            raise RequestRefusedError(
                "alpha_out_of_range",
                f"Alpha {alpha:g} is outside the path that the patch was evaluated on.",
                f"Choose alpha in [0, {end:g}].",
            )
        return alpha

    def point(self, alpha: float) -> AlphaPoint:
        """Return the point at an alpha: the evaluated one if the report has it, otherwise a predicted one."""
        known = next((point for point in self.points if point["alpha"] == alpha and point.get("measured", True)), None)
        if known is not None:
            return AlphaPoint.of_stored(known)
        patching, supported = self.stage.patching, self.stage.supported
        point = predict_point(self.stored, alpha, patching, supported, starts_at_base=not self.stage.fixed)
        assert point is not None
        return point


@dataclass(frozen=True)
class Curves:
    """Answers questions about the path of a patch."""

    database: DatabaseDep
    interpolants: InterpolantsDep

    def point(self, patch_id: str, alpha: float | None, profile: Profile | None) -> PatchCurve:
        """Return the scores of every task at an alpha."""
        search = self._search(patch_id, profile)
        return PatchCurve(
            patch_id=patch_id,
            profile=search.profile,
            nodes=search.stored.features.nodes,
            point=search.point(search.alpha(alpha)),
        )

    def changes(
        self,
        patch_id: str,
        task: str,
        alphas: tuple[float, float | None],
        profile: Profile | None,
        kind: Kind | None,
        limit: int,
        cursor: str | None,
    ) -> ChangedImages:
        """Return a page of the validation images that are answered differently at two alphas.

        Args:
            patch_id: The patch.
            task: Id of the data set.
            alphas: Before and after; None: the chosen alpha.
            profile: Of the path; None: the chosen one.
            kind: Only these; None: all images whose answer changes.
            limit: Maximum number of images.
            cursor: The previous page's `next_cursor`.

        Raises:
            RequestRefusedError: No such task, an alpha beyond the path, no interpolant, or an invalid cursor.
        """
        start = decode_cursor(cursor, _CURSOR, [int])[0] if cursor is not None else -1
        search = self._search(patch_id, profile)
        features = search.stored.features
        if task not in features.labels:
            raise RequestRefusedError(
                "task_not_evaluated",
                f"Data set {task} is not a task of patch {patch_id}.",
                f"Use one of {', '.join(features.labels)}.",
            )
        first, second = (search.alpha(alpha) for alpha in alphas)
        known = search.stored.at_0[task] if first == features.nodes[0] else None
        changes = answer_changes(features, task, first, second, known)
        indices = changes.indices if kind is None else _mask(changes, kind).nonzero()[:, 0]
        rest = indices[indices > start]
        page = rest[:limit].tolist()
        names = self._names(task, len(changes.labels)) if page else None
        classnames = features.classnames[task]
        return ChangedImages(
            patch_id=patch_id,
            task=task,
            profile=search.profile,
            from_alpha=first,
            to_alpha=second,
            from_measured=first in features.nodes,
            to_measured=second in features.nodes,
            num_images=len(changes.labels),
            num_lost=int(changes.lost.sum()),
            num_won=int(changes.won.sum()),
            num_changed=len(changes.indices),
            items=[_image(changes, index, classnames, names) for index in page],
            next_cursor=encode_cursor(_CURSOR, [page[-1]]) if len(rest) > limit else None,
        )

    def _search(self, patch_id: str, profile: Profile | None) -> _Search:
        with self.database.read() as session:
            report = stored_report(Patches(session).get(patch_id))
        if not report.get("stages"):
            raise _no_interpolant(patch_id, "It was made by an earlier release.")
        # Only what is needed is parsed: the points of all curves take longer than the answer.
        search, interpolants = report["stages"][-1], report.get("interpolants") or {}
        stage = ReportStage.of_stored({**search, "curves": {}})
        asked = profile or stage.profile
        stored = self.interpolants.curve(_blob(patch_id, interpolants, asked))
        if stored is None:
            raise _no_interpolant(patch_id, "They are too large to be loaded by a request.")
        return _Search(patch_id, stage, asked, stored, search["curves"].get(asked, ()))

    def _names(self, task: str, num_images: int) -> tuple[str, ...] | None:
        """Return the names of the images of a validation split; None if the data set has been deleted."""
        try:
            with self.database.read() as session:
                shard = (Datasets(session).get(task).shards or {}).get("validation")
        except NotFoundError:
            return None
        names = self.interpolants.names(shard["sha256"]) if shard else ()
        return names if len(names) == num_images else None


CurvesDep = Annotated[Curves, built(Curves)]


def _blob(patch_id: str, interpolants: Mapping[str, str], profile: str) -> str:
    sha256 = interpolants.get(profile)
    if sha256 is None and interpolants:
        raise _no_interpolant(patch_id, f"It has them for profile {', '.join(interpolants)}.", profile)
    if sha256 is None:
        raise _no_interpolant(patch_id, "It was made with folds, or by a release that stored none for this strategy.")
    return sha256


def _no_interpolant(patch_id: str, why: str, profile: str = "") -> RequestRefusedError:
    along = f" for profile {profile}" if profile else ""
    return RequestRefusedError(
        "no_interpolant",
        f"Patch {patch_id} has no features along alpha{along} that can be used. {why}",
        "Use the points in the report's `curve`, or create the patch again without folds and with this path.",
    )


def _mask(changes: AnswerChanges, kind: Kind) -> Tensor:
    return changes.lost if kind == "lost" else changes.won


def _image(
    changes: AnswerChanges, index: int, classnames: tuple[str, ...], names: tuple[str, ...] | None
) -> ChangedImage:
    label, before, after = (
        int(column[index]) for column in (changes.labels, changes.before.predicted, changes.after.predicted)
    )
    return ChangedImage(
        index=index,
        name=None if names is None else names[index],
        kind="lost" if before == label else "won" if after == label else "other",
        label=classnames[label],
        before=classnames[before],
        after=classnames[after],
        margin_before=float(changes.before.margins[index]),
        margin_after=float(changes.after.margins[index]),
    )
