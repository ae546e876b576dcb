"""Fine-tunes a small FastViT for a few steps; a program, because a fault of the layout ends the process."""

import sys
from pathlib import Path

from paint_core.config.finetune import FinetuneConfig
from paint_core.models import build_head, prompts
from paint_core.training.finetuning import finetune
from paint_core.weights import relative_norm, task_vector
from tests.paint_core import tiny, towers


def main(folder: Path) -> None:
    base = towers.random_base(folder, towers.FASTVIT)
    head = build_head(base, tiny.COLOURS, prompts.PLAIN)
    config = FinetuneConfig(iterations=3, batch_size=4, learning_rate=1e-3, warmup_steps=1)
    theta_0 = base.visual.state_dict()
    tau = task_vector(theta_0, finetune(base, head, tiny.coloured(base, 8), config))
    assert relative_norm(tau, theta_0) > 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
