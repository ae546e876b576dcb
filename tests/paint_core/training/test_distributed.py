import json
from pathlib import Path
from typing import Any

import pytest

from paint_core.errors import ConfigError
from paint_core.training.distributed import World
from tests.paint_core.training import distributed_run
from tests.support.forking import Forks


@pytest.fixture(scope="module")
def ranks(forks: Forks, tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Two processes on loopback run every case."""
    output = tmp_path_factory.mktemp("ranks")
    program = "tests.paint_core.training.distributed_run"
    arguments = (str(tiny_dir), str(output), *distributed_run.CASES)
    status, _, errors = forks.run("-m", program, *arguments, OMP_NUM_THREADS="1", GLOO_SOCKET_IFNAME="lo")
    assert status == 0, errors[-3000:]
    return [json.loads((output / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("case", ["plain", "anchored", "lora"])
def test_two_processes_have_the_losses_of_one(ranks: list[dict[str, Any]], tiny_dir: Path, case: str) -> None:
    alone = distributed_run.run(str(tiny_dir), case)
    assert ranks[0][case]["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    if case == "anchored":
        assert ranks[0][case]["anchor_losses"] == pytest.approx(alone["anchor_losses"], rel=1e-3, abs=1e-6)
    assert ranks[0][case]["checkpoints"] == alone["checkpoints"] == [2, 4]


def test_all_ranks_return_the_same_weights_and_only_rank_0_reports(ranks: list[dict[str, Any]]) -> None:
    for case in ("plain", "anchored", "lora"):
        assert ranks[0][case]["fingerprint"] == ranks[1][case]["fingerprint"]
        assert ranks[1][case]["losses"] == ranks[1][case]["checkpoints"] == []


def test_a_batch_that_two_processes_cannot_share_is_refused(ranks: list[dict[str, Any]]) -> None:
    assert all("batch_size 7 cannot be shared by 2 processes" in rank["uneven"]["error"] for rank in ranks)


def test_shares_are_disjoint_and_cover_the_batch() -> None:
    shares = [World(rank, 4).share(12, "batch_size") for rank in range(4)]
    assert sorted(index for share in shares for index in range(12)[share]) == list(range(12))


def test_micro_batches_of_a_share_come_out_even() -> None:
    with pytest.raises(ConfigError, match="multiple of 6"):
        World(0, 2).share(8, "batch_size", pieces=3)
