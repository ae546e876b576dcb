"""A request's images come back in parts, from several cores at once."""

import threading
import time

import numpy as np
import torch

from app.serving.model import ServedModel
from app.serving.work import Work
from paint_core.models import load_base


class _Slow(list[int]):
    """Indices that let other threads run while they are counted."""

    def __len__(self) -> int:
        time.sleep(0.02)
        return super().__len__()


def test_parts_that_are_forwarded_at_once_all_arrive_and_one_of_them_is_the_last() -> None:
    base = load_base("starter")
    model = ServedModel(1, base, base.visual, torch.device("cpu"), base.logit_scale, base.logit_bias)
    work = Work(model, np.empty((8, 2, 2, 3), np.uint8))
    start, was_last = threading.Barrier(4), list[bool]()

    def forward(part: int) -> None:
        rows = np.full((2, 5), part, np.float32)
        start.wait(30)
        was_last.append(work.put_features(_Slow([part, part + 4]), rows))

    threads = [threading.Thread(target=forward, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(was_last) == [False, False, False, True]
    assert work.features[:, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
