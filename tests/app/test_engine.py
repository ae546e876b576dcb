"""From encoded images to features and cosines, and what is not done when nobody waits for it."""

import asyncio
import io
import time
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest
import torch
from PIL import Image

from app.http.admission import Admission
from app.http.errors import DeadlineExceededError, ImageRefusedError, QueueFullError
from app.inference.scoring import scores
from app.models.served_model import ServedModel
from app.serving.batch_policy import BatchPolicy
from app.serving.engine import Engine
from paint_core.errors import HeadError
from paint_core.models import BaseModel, build_head, encode_texts, load_base
from tests.app.gate import Gate, TextGate
from tests.app.world import expected_cosines
from tests.builders import digit_pngs

IMAGES = [digit_pngs(digit)[0] for digit in range(10)]
LABELS, TEMPLATES = ("digit one", "digit two", "a boat"), ("{}", "a {} icon")
_Result = TypeVar("_Result")


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("starter")


@pytest.fixture(params=[1, 2], ids=["one core", "two cores"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = Engine(decode_threads=request.param, max_queue_images=128)
    yield engine
    engine.close()


def served(base: BaseModel, visual: torch.nn.Module | None = None) -> ServedModel:
    return ServedModel(1, base, visual or base.visual)


def run(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_features_are_of_unit_length_and_cosines_those_of_the_library(engine: Engine, base: BaseModel) -> None:
    async def ask() -> Any:
        requests = [engine.score(served(base), IMAGES[:size], LABELS, TEMPLATES) for size in (1, 3, 10)]
        return await asyncio.gather(*requests)

    expected = expected_cosines(base, base.visual, IMAGES, LABELS, TEMPLATES)
    for scored in run(ask()):
        count = len(scored.pixels)
        assert scored.features.shape == (count, base.embed_dim)
        torch.testing.assert_close(scored.features.norm(dim=1), torch.ones(count))
        torch.testing.assert_close(scored.cosines, expected[:count], atol=1e-4, rtol=0)
        assert all(value >= 0 for value in scored.timing_ms.values())


def test_embeddings_multiply_to_the_cosines(engine: Engine, base: BaseModel) -> None:
    model = served(base)
    images = run(engine.embed_images(model, IMAGES))
    texts = run(engine.embed_texts(model, ["a digit", "a very long text " * 50]))
    torch.testing.assert_close(texts, encode_texts(base, ["a digit", "a very long text " * 50]))
    head = build_head(base, LABELS, TEMPLATES)
    scored = run(engine.score(model, IMAGES, LABELS, TEMPLATES))
    torch.testing.assert_close(images @ head.T, scored.cosines, atol=1e-4, rtol=0)


def test_scores_are_a_softmax_or_a_sigmoid_of_each_with_the_models_bias() -> None:
    cosines = torch.tensor([[0.3, 0.1, -0.2], [-1.0, 1.0, 0.0]])
    judged = {flag: torch.from_numpy(scores(cosines.numpy(), 100.0, -10.0, multi_label=flag)) for flag in (True, False)}
    torch.testing.assert_close(judged[False], torch.softmax(100 * cosines, dim=1), atol=1e-5, rtol=0)
    torch.testing.assert_close(judged[True], torch.sigmoid(100 * cosines - 10), atol=1e-6, rtol=0)


def test_a_request_that_is_cancelled_frees_its_place_and_is_not_forwarded(engine: Engine, base: BaseModel) -> None:
    gate = Gate(base.visual)
    model = served(base, gate)

    async def ask() -> None:
        first = asyncio.create_task(engine.embed_images(model, IMAGES[:1]))
        await until(gate.entered.is_set)
        gone = [asyncio.create_task(engine.embed_images(model, IMAGES)) for _ in range(3)]
        kept = asyncio.create_task(engine.embed_images(model, IMAGES[:2]))
        await asyncio.sleep(0)
        assert engine.admission.num_images == 33
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        assert engine.admission.num_images == 3
        gate.opened.set()
        assert [len(features) for features in await asyncio.gather(first, kept)] == [1, 2]

    run(ask())
    assert sum(gate.batch_sizes) == 3  # two images go together or, on a busy machine, one after the other
    assert engine.admission.num_images == 0


def test_a_deadline_is_kept_and_says_what_waited(engine: Engine, base: BaseModel) -> None:
    gate = Gate(base.visual)
    model = served(base, gate)

    async def ask() -> DeadlineExceededError:
        first = asyncio.create_task(engine.embed_images(model, IMAGES[:1]))
        await until(gate.entered.is_set)
        with pytest.raises(DeadlineExceededError) as late:
            await engine.score(model, IMAGES, LABELS, TEMPLATES, deadline=time.monotonic() + 0.05)
        with pytest.raises(DeadlineExceededError):
            await engine.embed_texts(model, ["a text"], deadline=time.monotonic() - 1)
        assert engine.admission.num_images == 1
        gate.opened.set()
        await first
        return late.value

    assert "10 of 10 images were waiting" in run(ask()).detail
    assert gate.batch_sizes == [1]


def test_a_single_image_overtakes_a_huge_request(engine: Engine, base: BaseModel) -> None:
    gate = Gate(base.visual)
    model = served(base, gate)
    order: list[str] = []

    async def ask(name: str, num_images: int) -> None:
        await engine.embed_images(model, [IMAGES[0]] * num_images)
        order.append(name)

    async def together() -> None:
        blocker = asyncio.create_task(ask("first", 1))
        await until(gate.entered.is_set)
        huge = asyncio.create_task(ask("huge", 100))
        await asyncio.sleep(0)
        single = asyncio.create_task(ask("single", 1))
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(blocker, huge, single)

    run(together())
    assert order == ["first", "single", "huge"]
    assert sum(gate.batch_sizes) == 102
    assert max(gate.batch_sizes) <= BatchPolicy.for_device(torch.device("cpu"), num_cores=1).max_images


def test_a_broken_image_is_named_and_the_request_beside_it_answered(engine: Engine, base: BaseModel) -> None:
    model = served(base)

    async def ask() -> Any:
        broken = engine.score(model, [*IMAGES[:3], b"no image", b"nor this"], LABELS, TEMPLATES)
        whole = engine.score(model, IMAGES, LABELS, TEMPLATES)
        return await asyncio.gather(broken, whole, return_exceptions=True)

    refused, scored = run(ask())
    assert isinstance(refused, ImageRefusedError)
    assert (refused.index, refused.code) == (3, "image_undecodable")
    assert len(scored.cosines) == len(IMAGES)


def test_labels_of_which_no_head_can_be_built_are_refused(engine: Engine, base: BaseModel) -> None:
    with pytest.raises(HeadError):
        run(engine.score(served(base), IMAGES, ("a", "a"), TEMPLATES))


class Clock:
    """The time that an admission is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def retry_after(admission: Admission, num_held: int, num_images: int) -> int:
    with pytest.raises(QueueFullError) as full, admission.hold(num_held), admission.hold(num_images):
        pass
    return full.value.retry_after_seconds


def test_a_full_engine_says_when_to_come_back_from_how_fast_it_is() -> None:
    clock = Clock()
    admission = Admission(100, clock=clock)
    with admission.hold(20):
        pass
    assert retry_after(admission, 90, 11) == 1  # one request tells nothing of the speed
    for _ in range(4):
        clock.now += 1
        with admission.hold(20):
            pass
    clock.now += 1  # now 100 images in five seconds are known
    assert retry_after(admission, 90, 11) == 5
    assert retry_after(admission, 30, 71) == 2
    clock.now += 100
    assert retry_after(admission, 90, 11) == 1


def test_whoever_comes_to_a_full_engine_is_never_sent_away_for_long() -> None:
    clock = Clock()
    admission = Admission(1000, clock=clock)
    for _ in range(2):
        with admission.hold(1):
            pass
    clock.now += 5
    assert retry_after(admission, 1000, 1) == 30


def test_a_caller_who_fills_the_engine_leaves_others_their_share() -> None:
    admission = Admission(100)
    with admission.hold(100, "a"):
        for caller, num_images in (("a", 1), ("b", 51)):
            with pytest.raises(QueueFullError), admission.hold(num_images, caller):
                pass
        with admission.hold(50, "b"), admission.hold(33, "c"):
            with pytest.raises(QueueFullError), admission.hold(1, "b"):
                pass
            with admission.hold(17, "d"), pytest.raises(QueueFullError), admission.hold(1, "e"):
                pass  # twice as many as there may be: nobody else is let in
            assert admission.num_images == 183
    assert admission.num_images == 0
    assert not admission._held


def blank(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (side, side)).save(buffer, "PNG")
    return buffer.getvalue()


def test_an_image_of_too_many_pixels_is_refused_before_anything_waits(base: BaseModel) -> None:
    engine = Engine(decode_threads=1, max_queue_images=128, max_image_pixels=1_000_000)
    with pytest.raises(ImageRefusedError, match="1001 x 1001 is more than 1,000,000 pixels") as refused:
        run(engine.embed_images(served(base), [blank(1000), blank(1001)]))
    assert (refused.value.index, refused.value.code) == (1, "image_undecodable")
    run(engine.embed_images(served(base), [blank(1000)]))
    engine.close()


def test_images_that_take_long_to_decode_are_counted_by_their_pixels(base: BaseModel) -> None:
    engine = Engine(decode_threads=2, max_queue_images=128, max_queue_megapixels=4)
    gate = Gate(base.visual)
    model, large, single = served(base, gate), [blank(1000)] * 3, [blank(1500)]

    async def ask() -> None:
        first = asyncio.create_task(engine.embed_images(model, large, caller="a"))
        await until(gate.entered.is_set)
        with pytest.raises(QueueFullError, match="3 megapixels are waiting"):
            await engine.embed_images(model, single, caller="a")
        assert engine.admission.num_images == 3
        small = asyncio.create_task(engine.embed_images(model, IMAGES, caller="a"))
        gate.opened.set()
        assert [len(features) for features in await asyncio.gather(first, small)] == [3, 10]
        assert len(await engine.embed_images(model, large * 2, caller="a")) == 6  # alone, as many as there are

    run(ask())
    engine.close()


def test_labels_of_whoever_is_late_or_has_gone_are_not_encoded(base: BaseModel) -> None:
    engine = Engine(decode_threads=1, max_queue_images=128)
    gate = TextGate(base.tokenizer)
    model = served(gate.before(base))

    async def score(name: str, deadline: float | None = None) -> Any:
        labels = tuple(f"{name} {number}" for number in range(100))
        return await engine.score(model, IMAGES[:1], labels, ("{}",), deadline=deadline)

    async def ask() -> None:
        tasks = [asyncio.create_task(score(f"gone{number}")) for number in range(5)]
        await until(lambda: gate.slices)
        late = [score("late", time.monotonic() + 0.05), engine.embed_texts(model, ["late"], deadline=time.monotonic())]
        told = await asyncio.gather(*late, return_exceptions=True)
        assert [type(each) for each in told] == [DeadlineExceededError] * 2
        assert engine.is_busy
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        gate.open()
        assert (await score("kept")).cosines.shape == (1, 100)
        await until(lambda: engine.heads.admission.num_images == 0)

    run(ask())
    assert [texts[0] for texts in gate.slices] == ["gone0 0", *(f"kept {32 * index}" for index in range(4))]
    assert len(engine.heads) == 1
    engine.close()
