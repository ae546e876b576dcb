"""What a point between the evaluated alphas costs: from the stored interpolant, without a forward of the model.

A made-up interpolant of the size that `make demo` leaves: 1,379 validation images of five tasks, seven nodes, the
starter's embedding. `answers` tells which of all images are answered correctly at an alpha. `point` is what
`GET /v1/patches/{id}/curve` computes, scores, intervals, lost and gained images included; `changes` is what
`/changes` computes for the largest task; `load` happens once, before it is cached; `report` is the rest of a request:
parsing the search in the stored report, which holds a curve of 101 points. One thread, as in the API.

    python benchmarks/curve_query.py [--quick] [--json FILE]
"""

from __future__ import annotations

import json
from functools import partial

import torch
from _report import Figure, measure, medians, parser, report

from app.patches.interpolants import StoredCurve
from app.patches.prediction import predict_point
from contract.report import PatchReport, ReportStage
from contract.scores import AlphaPoint
from paint_core.alpha import FeatureCurve
from paint_core.alpha.changes import answer_changes

NUM_IMAGES = {"digits": 359, "food": 255, "nature": 255, "objects": 255, "travel": 255}
NUM_CLASSES = {"digits": 10, "food": 30, "nature": 30, "objects": 30, "travel": 30}
WIDTH = 192
NODES = (0.0, 0.15, 0.35, 0.4, 0.55, 0.85, 1.0)
ALPHA = 0.47


def main() -> None:
    """Measure and print."""
    options = parser(__doc__).parse_args()
    torch.set_num_threads(1)
    curve = made_up()
    stored = StoredCurve.of(curve)
    patching, supported = ("digits",), tuple(name for name in NUM_IMAGES if name != "digits")
    point = partial(predict_point, stored, ALPHA, patching, supported, starts_at_base=True)
    found = point()
    assert found is not None
    data, document = curve.to_bytes(), stored_report(found)
    samples = measure(
        {
            "answers": lambda: curve.correct_answers(ALPHA),
            "point": point,
            "changes": lambda: answer_changes(curve, "digits", 0.0, ALPHA),
            "load": lambda: FeatureCurve.from_bytes(data),
            "report": lambda: ReportStage.of_stored({**json.loads(document)["stages"][-1], "curves": {}}),
        },
        rounds=20 if options.quick else 200,
    )
    seconds = medians(samples)
    figures = [Figure("answers_milliseconds", 1000 * seconds["answers"], "ms", target=4.0, at_most=True)]
    others = ("point", "changes", "load", "report")
    figures += [Figure(f"{name}_milliseconds", 1000 * seconds[name], "ms") for name in others]
    figures.append(Figure("interpolant_megabytes", len(data) / 1e6, "MB"))
    report(figures, options.json, samples)


def made_up() -> FeatureCurve:
    """Return an interpolant of random features that move from one place to another."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    ends = {name: (draw(count, WIDTH), draw(count, WIDTH)) for name, count in NUM_IMAGES.items()}
    return FeatureCurve(
        nodes=NODES,
        features={
            name: torch.stack([(1 - a) * first + a * last for a in NODES]) for name, (first, last) in ends.items()
        },
        labels={name: torch.arange(count) % NUM_CLASSES[name] for name, count in NUM_IMAGES.items()},
        heads={name: torch.nn.functional.normalize(draw(NUM_CLASSES[name], WIDTH), dim=1) for name in NUM_IMAGES},
        classnames={name: tuple(map(str, range(NUM_CLASSES[name]))) for name in NUM_IMAGES},
        logit_scale=100.0,
    )


def stored_report(point: AlphaPoint) -> str:
    """Return a report as the database stores it, with a curve of 101 points."""
    stage = ReportStage(
        key="task:digits",
        rule="combined",
        alpha=ALPHA,
        profile="flat",
        reason="",
        patching=("digits",),
        supported=(),
        curves={"flat": (point,) * 101},
    )
    whole = PatchReport(alpha=ALPHA, reason="", stages=(stage,), curve=stage.curves["flat"], tasks=())
    return json.dumps(whole.to_json())


if __name__ == "__main__":
    main()
