"""Images of a request are decoded and come back in parts, on several cores at once."""

import threading
import time

import numpy as np

from app.models.served_model import ServedModel
from app.serving.request import InferenceRequest
from paint_core.models import load_base


class _Broken(InferenceRequest):
    """A request of whose images none can be decoded; those that were tried."""

    tried: list[int]

    def decode_image(self, index: int) -> None:
        self.tried.append(index)
        raise ValueError(str(index))


def test_the_first_image_that_cannot_be_decoded_is_named_whichever_core_is_faster() -> None:
    base = load_base("starter")
    model = ServedModel(1, base, base.visual)
    request = _Broken.of_images(model, [b"no image"] * 8)
    request.tried = []
    for _ in range(3):
        request.begin_decoding(2)
    assert request.decode([4, 5]) == []
    assert request.decode([6, 7]) == []
    assert not request.answer.done()  # images before it are still being decoded
    assert request.decode([2, 3]) == []
    assert request.tried == [4, 2]
    assert str(request.answer.exception(0)) == "2"
    request.begin_decoding(2)
    assert request.decode([0, 1]) == []
    assert request.tried == [4, 2]  # the request is answered


class _Slow(list[int]):
    """Indices that let other threads run while they are counted."""

    def __len__(self) -> int:
        time.sleep(0.02)
        return super().__len__()


def test_parts_that_are_forwarded_at_once_all_arrive_and_one_of_them_is_the_last() -> None:
    base = load_base("starter")
    model = ServedModel(1, base, base.visual)
    request = InferenceRequest(model, np.empty((8, 2, 2, 3), np.uint8))
    start, was_last = threading.Barrier(4), list[bool]()

    def forward(part: int) -> None:
        rows = np.full((2, 5), part, np.float32)
        start.wait(30)
        was_last.append(request.put_features(_Slow([part, part + 4]), rows))

    threads = [threading.Thread(target=forward, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(was_last) == [False, False, False, True]
    assert request.features[:, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
