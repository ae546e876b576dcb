"""When a batch leaves, and on how many cores: no threads here, only the order of events."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.serving.batch_policy import BatchPolicy
from app.serving.batch_queue import BatchQueue, Task
from app.serving.request import Batch, InferenceRequest
from paint_core.models import BaseModel, load_base
from tests.app.batch_queues import LONG, SHORT, Clock, begin, encoded, forward, process, ready, served, sizes

CORE = BatchPolicy(max_images=8, num_cores=1)
CORES = BatchPolicy(max_images=8, num_cores=2)


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("starter")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_core_does_one_batch_at_a_time(base: BaseModel) -> None:
    queue, model = BatchQueue(CORE), served(base)
    for _ in range(12):
        queue.put(encoded(model, 1))
    task = begin(queue)
    assert sizes(task.batch) == [1] * 8
    assert queue.next_task(wait=False) is None
    queue.end(task)
    assert sizes(process(queue)) == [1] * 4


def test_what_waits_is_shared_out_among_the_free_cores(base: BaseModel) -> None:
    for image_seconds in (SHORT, LONG):
        queue, model = BatchQueue(BatchPolicy(max_images=32, num_cores=2)), served(base, image_seconds)
        queue.put(ready(model, 8))
        halves = [begin(queue) for _ in range(2)]
        assert [(sizes(half.batch), half.num_cores) for half in halves] == [([4], 1), ([4], 1)]
        assert sorted(index for half in halves for _, indices in half.batch for index in indices) == list(range(8))
        assert queue.next_task(wait=False) is None


def test_what_waits_is_shared_out_only_among_cores_that_are_free(base: BaseModel) -> None:
    queue, model = BatchQueue(BatchPolicy(max_images=32, num_cores=3)), served(base)
    queue.put(ready(model, 1))
    first = begin(queue)
    queue.put(ready(model, 9))
    rest = [begin(queue) for _ in range(2)]
    assert [(sizes(task.batch), task.num_cores) for task in [first, *rest]] == [([1], 1), ([5], 1), ([4], 1)]


def test_a_short_forward_takes_one_core_and_leaves_the_others_to_whoever_comes(base: BaseModel) -> None:
    queue, model = BatchQueue(CORES), served(base, SHORT)
    queue.put(ready(model, 1))
    assert forward(queue).num_cores == 1
    queue.put(encoded(model, 1))
    assert forward(queue).num_cores == 1


def test_a_long_forward_takes_all_free_cores_once_its_images_are_decoded(base: BaseModel) -> None:
    queue, model = BatchQueue(BatchPolicy(max_images=8, num_cores=4)), served(base, LONG)
    queue.put(encoded(model, 1))
    task = begin(queue)
    queue.put(encoded(model, 1))
    other = begin(queue)  # while the first is being decoded
    queue.begin_forward(task)
    assert (task.num_cores, other.num_cores) == (3, 1)
    queue.put(encoded(model, 1))
    assert queue.next_task(wait=False) is None
    queue.end(task)
    assert forward(queue).num_cores == 3


def test_a_long_forward_takes_no_core_that_waiting_images_need(base: BaseModel) -> None:
    queue, model = BatchQueue(BatchPolicy(max_images=1, num_cores=2)), served(base, LONG)
    queue.put(ready(model, 3))
    assert [forward(queue).num_cores for _ in range(2)] == [1, 1]


def test_while_cores_share_a_forward_no_other_is_shared(base: BaseModel) -> None:
    queue, model = BatchQueue(BatchPolicy(max_images=8, num_cores=4)), served(base, LONG)
    held = []
    for _ in range(2):
        queue.put(ready(model, 1))
        held.append(begin(queue))
    queue.put(ready(model, 1))
    shared = forward(queue)
    assert shared.num_cores == 2
    queue.end(held[0])
    queue.begin_forward(held[1])
    assert held[1].num_cores == 1
    queue.end(shared)
    queue.put(ready(model, 1))
    assert forward(queue).num_cores == 3


def test_a_large_image_is_a_batch_of_its_own_and_leaves_a_core_to_small_ones(base: BaseModel) -> None:
    queue, model = BatchQueue(CORES), served(base)
    queue.put(encoded(model, 1))
    process(queue)
    huge, small = encoded(model, 2, costs=[25.0] * 2), encoded(model, 2)
    queue.put(huge)
    first = begin(queue)
    assert first.batch == [(huge, [0])]
    assert queue.next_task(wait=False) is None  # a core is kept free: small images came a moment ago
    queue.put(small)
    assert process(queue) == [(small, [0, 1])]
    queue.begin_forward(first)
    assert begin(queue).batch == [(huge, [1])]


def test_images_that_come_while_a_batch_is_decoded_join_it_until_it_is_full(base: BaseModel) -> None:
    queue, model = BatchQueue(CORE), served(base)
    queue.put(encoded(model, 3))
    task = begin(queue)
    assert queue.extend(task) == []
    second, third = encoded(model, 2), encoded(model, 9)
    queue.put(second)
    assert queue.extend(task) == [(second, [0, 1])]
    queue.put(third)
    assert sizes(queue.extend(task)) == [3]
    assert sizes(task.batch) == [3, 2, 3]
    assert queue.extend(task) == []
    queue.end(task)
    assert process(queue) == [(third, list(range(3, 9)))]


def test_images_join_no_batch_that_another_core_another_model_or_their_cost_keeps_them_from(base: BaseModel) -> None:
    model, other = served(base), served(base)
    for late, joins in (
        (encoded(model, 1), True),
        (encoded(other, 1), False),
        (encoded(model, 1, costs=[25.0]), False),
        (encoded(model, 1, low_priority=True), False),
    ):
        queue = BatchQueue(CORE)
        queue.put(encoded(model, 1))
        task = begin(queue)
        queue.put(late)
        assert queue.extend(task) == ([(late, [0])] if joins else [])
    queue = BatchQueue(BatchPolicy(max_images=8, num_cores=2))
    queue.put(encoded(model, 1))
    task = begin(queue)
    queue.put(encoded(model, 1))
    assert queue.extend(task) == []  # the other core is free
    queue = BatchQueue(CORE)
    queue.put(encoded(model, 2, costs=[3.0, 3.0]))  # together as much as eight photographs
    task = begin(queue)
    queue.put(encoded(model, 1))
    assert queue.extend(task) == []


def test_a_closed_queue_gives_out_what_is_decoded_and_cancels_what_is_not(base: BaseModel) -> None:
    queue, model = BatchQueue(BatchPolicy(max_images=1, num_cores=1)), served(base)
    decoded, waiting = ready(model, 2), encoded(model, 1)
    queue.put(decoded)
    queue.put(waiting)
    queue.close()
    assert waiting.answer.cancelled()
    assert [process(queue) for _ in range(2)] == [[(decoded, [0])], [(decoded, [1])]]
    assert queue.next_task() is None
    with pytest.raises(RuntimeError):
        queue.put(ready(model, 1))


def test_closing_wakes_a_core_that_waits(base: BaseModel) -> None:
    queue = BatchQueue(CORE)
    found: list[Task | None] = []
    thread = threading.Thread(target=lambda: found.append(queue.next_task()))
    thread.start()
    queue.close()
    thread.join(30)
    assert found == [None]


Image = tuple[int, int]
"""The number of a request, and the image's in it."""


@dataclass
class Yard:
    """Cores that take tasks from a queue when they are told to, and what has become of every image."""

    policy: BatchPolicy
    requests: list[InferenceRequest] = field(default_factory=list)
    under_way: list[Task] = field(default_factory=list)
    decoding: list[Task] = field(default_factory=list)
    begun: set[Image] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.queue = BatchQueue(self.policy)

    @property
    def num_used_cores(self) -> int:
        return sum(task.num_cores for task in self.under_way)

    def put(self, request: InferenceRequest) -> None:
        self.requests.append(request)
        self.queue.put(request)

    def begin(self) -> bool:
        task = self.queue.next_task(wait=False)
        if task is None:
            num_large = sum(task.is_large for task in self.decoding)
            wanted = {image for image in self._wanted() - self.begun if not (num_large and self._is_large(image))}
            assert self.num_used_cores == self.policy.num_cores or wanted == set()
            return False
        self.under_way.append(task)
        self.decoding.append(task)
        assert self.num_used_cores <= self.policy.num_cores
        self._take(task, task.batch)
        return True

    def decode(self, task: Task) -> None:
        while added := self.queue.extend(task):
            self._take(task, added)
        self.decoding.remove(task)
        self.queue.begin_forward(task)

    def end(self, task: Task) -> None:
        self.under_way.remove(task)
        if task in self.decoding:
            self.decode(task)
        self.queue.end(task)

    def run_dry(self) -> None:
        while self.begin() or self.under_way:
            if self.under_way:
                self.end(self.under_way[0])
        assert self._wanted() <= self.begun

    def _take(self, task: Task, taken: Batch) -> None:
        images = [image for request, indices in taken for image in self._images(request, indices)]
        assert 1 <= len(images) <= task.num_images <= self.policy.max_images
        assert len({request.model for request, _ in task.batch}) == 1
        assert not any(request.is_abandoned() for request, _ in taken)
        assert self.begun.isdisjoint(images)
        assert len(set(images)) == len(images)
        assert not task.is_large or task.num_images == 1
        self.begun.update(images)

    def _wanted(self) -> set[Image]:
        wanted = (request for request in self.requests if not request.is_abandoned())
        return {image for request in wanted for image in self._images(request, range(request.num_images))}

    def _is_large(self, image: Image) -> bool:
        costs = self.requests[image[0]].costs
        return bool(costs) and costs[image[1]] > 4

    def _images(self, request: InferenceRequest, indices: Iterable[int]) -> list[Image]:
        return [(self.requests.index(request), index) for index in indices]


EVENTS = ["put", "put", "begin", "begin", "begin", "decode", "end", "end", "end", "cancel"]


@settings(max_examples=200)
@given(st.data(), st.integers(1, 5), st.integers(1, 4), st.booleans())
def test_every_image_that_somebody_wants_is_given_out_once(
    base: BaseModel, data: st.DataObject, max_images: int, num_cores: int, is_closed: bool
) -> None:
    yard = Yard(BatchPolicy(max_images, num_cores=num_cores))
    models = [served(base, SHORT), served(base, LONG)]
    for event in data.draw(st.lists(st.sampled_from(EVENTS), max_size=60)):
        if event == "put":
            make, model = data.draw(st.sampled_from([encoded, ready])), data.draw(st.sampled_from(models))
            costs = data.draw(st.lists(st.sampled_from([0.1, 25.0]), min_size=1, max_size=6))
            options = {"costs": costs} if make is encoded else {}
            yard.put(make(model, len(costs), low_priority=data.draw(st.booleans()), **options))
        elif event == "begin":
            yard.begin()
        elif event == "cancel" and yard.requests:
            data.draw(st.sampled_from(yard.requests)).answer.cancel()
        elif event == "decode" and yard.decoding:
            yard.decode(data.draw(st.sampled_from(yard.decoding)))
        elif event == "end" and yard.under_way:
            yard.end(data.draw(st.sampled_from(yard.under_way)))
    if is_closed:
        yard.queue.close()
    yard.run_dry()
    if not is_closed:
        yard.put(ready(models[1], 1))
        assert yard.begin()
        yard.decode(yard.decoding[0])
        assert yard.num_used_cores == num_cores  # all are free again
        yard.run_dry()
        yard.queue.close()
    assert yard.queue.next_task() is None
