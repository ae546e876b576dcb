"""A fine-tuning run in two processes, as `torchrun` would start them: MODEL_FOLDER OUTPUT_FOLDER CASE.

The second process is forked from the first, before anything runs: PyTorch is imported once.
"""

import dataclasses
import json
import os
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from paint_core.config.finetune import FinetuneConfig
from paint_core.errors import ConfigError
from paint_core.models import build_head, load_base, prompts
from paint_core.training.distributed import World
from paint_core.training.finetuning import StepReport, finetune
from paint_core.training.train_state import TrainState
from paint_core.weights import fingerprint
from tests.paint_core import tiny

CONFIG = FinetuneConfig(iterations=5, batch_size=8, learning_rate=1e-3, warmup_steps=1)
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "anchored": {"anchor_weight": 20.0, "anchor_batch_size": 8, "accumulation_steps": 2},
    "lora": {"trainable": "lora", "lora_rank": 2},
    "uneven": {"batch_size": 7},
}


def run(folder: str, case: str) -> dict[str, Any]:
    """What a run of this case gives: losses, weights' fingerprint, checkpoints; or the refusal."""
    base = load_base(f"local-dir:{folder}")
    config = dataclasses.replace(CONFIG, **CASES[case])
    anchors = tiny.coloured(base, 12, seed=3).images if config.anchor_weight else None
    reports: list[StepReport] = []
    states: list[TrainState] = []
    try:
        theta_1 = finetune(
            base,
            build_head(base, tiny.COLOURS, prompts.PLAIN),
            tiny.coloured(base, 20),
            config,
            anchors=anchors,
            on_step=reports.append,
            checkpoint_every=2,
            on_checkpoint=states.append,
        )
    except ConfigError as error:
        return {"error": str(error)}
    return {
        "losses": [report.loss for report in reports],
        "anchor_losses": [report.anchor_loss for report in reports],
        "fingerprint": fingerprint(theta_1),
        "checkpoints": [state.step for state in states],
    }


def main() -> None:
    """Run every case named in each process, and write a file per rank."""
    folder, output, *cases = sys.argv[1:]
    torch.set_num_threads(1)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": "0"}
    import_module("peft")  # what "lora" needs
    child = os.fork()
    if child == 0:
        os.environ["RANK"] = "1"
    _run_cases(folder, output, cases)
    if child == 0:
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit("rank 1 failed")


def _run_cases(folder: str, output: str, cases: list[str]) -> None:
    dist.init_process_group("gloo")
    results = {case: run(folder, case) for case in cases}
    (Path(output) / f"rank{World.current().rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
