"""The alpha engine: scores along the path from theta_0 to theta_1, and the choice of a point on it.

- options.py: what can be asked: rule, strategy, path, grid
- paths.py: which terms alpha moves
- curve.py: true evaluations along a path
- interpolation.py: a curve from few evaluations, kept for later questions
- strategies.py: every point measured, or most of them interpolated
- floor.py: what supported tasks may lose
- rules.py: which point is chosen
- search.py: all of it together
"""

from paint_core.alpha.curve import CurvePoint, EvaluationTask, PathEvaluator, evaluate_curve
from paint_core.alpha.floor import Floor, exact_mean
from paint_core.alpha.interpolation import FeatureCurve, barycentric_weights
from paint_core.alpha.options import MAX_LINES_ALPHA, MAX_MERGED_ALPHA, NODES, AlphaOptions, Strategy, grid
from paint_core.alpha.paths import Path
from paint_core.alpha.rules import AlphaChoice, Goal, choose_alpha, combined, exact_combined
from paint_core.alpha.search import AlphaSearch, search_alpha

WeightPath = Path
"""The same class, under a name that does not clash with pathlib's."""

__all__ = [
    "MAX_LINES_ALPHA",
    "MAX_MERGED_ALPHA",
    "NODES",
    "AlphaChoice",
    "AlphaOptions",
    "AlphaSearch",
    "CurvePoint",
    "EvaluationTask",
    "FeatureCurve",
    "Floor",
    "Goal",
    "Path",
    "PathEvaluator",
    "Strategy",
    "WeightPath",
    "barycentric_weights",
    "choose_alpha",
    "combined",
    "evaluate_curve",
    "exact_combined",
    "exact_mean",
    "grid",
    "search_alpha",
]
