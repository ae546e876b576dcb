import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as TF

from paint_core.runtime import randomness
from paint_core.runtime.randomness import batch_indices, derive_seed, generator


@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 3))
def test_every_epoch_shows_every_image_once(num_images: int, batch_size: int, seed: int) -> None:
    steps = -(-3 * num_images // batch_size)
    stream = torch.cat([batch_indices(step, num_images, batch_size, seed) for step in range(steps)])
    assert len(stream) == steps * batch_size
    for epoch in range(3):
        assert sorted(stream[epoch * num_images :][:num_images].tolist()) == list(range(num_images))


def test_seeds_and_epochs_give_other_orders() -> None:
    orders = [batch_indices(epoch, 50, 50, seed).tolist() for epoch in range(2) for seed in range(2)]
    assert len({tuple(order) for order in orders}) == 4


def test_seeds_of_different_purposes_share_nothing() -> None:
    keys = [(purpose, seed, index) for purpose in ("order", "crop") for seed in range(20) for index in range(20)]
    assert len({derive_seed(*key) for key in keys}) == len(keys)
    assert all(0 <= derive_seed(*key) < 2**63 for key in keys)


def crop(images: Tensor, scale: tuple[float, float], source: torch.Generator) -> Tensor:
    return randomness.resize_crops(images, randomness.crop_boxes(len(images), scale, source))


def test_a_crop_is_a_function_of_its_generator_and_leaves_its_input_alone() -> None:
    images = torch.randint(0, 256, (6, 16, 16, 3), dtype=torch.uint8)
    before = images.clone()
    crops = [crop(images, (0.5, 1.0), generator("crop", 0, step)) for step in (1, 1, 2)]
    assert torch.equal(crops[0], crops[1])
    assert not torch.equal(crops[0], crops[2])
    assert torch.equal(images, before)
    assert 0 <= float(crops[0].min()) <= float(crops[0].max()) <= 255


def test_whole_pictures_come_back_exactly() -> None:
    images = torch.randint(0, 256, (6, 16, 16, 3), dtype=torch.uint8)
    whole = torch.tensor([[1.0, 1.0, 0.0, 0.0]]).expand(6, 4)
    torch.testing.assert_close(randomness.resize_crops(images, whole), images.float(), rtol=0, atol=1e-3)


def test_a_crop_equals_torchvisions_at_the_same_place() -> None:
    rows = torch.arange(64.0)
    smooth = (rows[:, None] * 2 + rows[None, :]).clamp(0, 255).to(torch.uint8)
    images = smooth[None, :, :, None].expand(1, 64, 64, 3).contiguous()
    source = generator("crop", 0, 3)
    width, height, left, top = (64 * randomness.crop_boxes(1, (0.3, 0.3), source)[0]).tolist()
    ours = crop(images, (0.3, 0.3), generator("crop", 0, 3))[0]
    box = (round(top), round(left), round(height), round(width))
    theirs = TF.resized_crop(images[0].permute(2, 0, 1), *box, [64, 64], InterpolationMode.BICUBIC, antialias=True)
    # Theirs lie on whole pixels; the ramp rises by 2 a pixel.
    assert float((ours - theirs.permute(1, 2, 0).float())[4:-4, 4:-4].abs().max()) < 2.5


@given(st.floats(0.05, 1.0), st.integers(0, 1000))
def test_crops_lie_inside_the_picture_and_have_the_area_asked_for(low: float, seed: int) -> None:
    boxes = randomness.crop_boxes(50, (low, 1.0), generator("crop", seed, 0))
    width, height, left, top = boxes.unbind(dim=1)
    assert ((left >= 0) & (left + width <= 1 + 1e-6) & (top >= 0) & (top + height <= 1 + 1e-6)).all()
    assert (width * height >= low - 1e-5).all()
    ratio = width / height
    assert ((ratio > 0.74) & (ratio < 1.34)).all()


def test_crops_are_as_large_on_average_as_torchvisions() -> None:
    picture = torch.zeros(3, 224, 224)
    theirs = [RandomResizedCrop.get_params(picture, [0.9, 1.0], [3 / 4, 4 / 3])[2:] for _ in range(2000)]
    mean = sum(height * width for height, width in theirs) / len(theirs) / 224**2
    boxes = randomness.crop_boxes(2000, (0.9, 1.0), generator("crop", 0, 0))
    assert abs(float((boxes[:, 0] * boxes[:, 1]).mean()) - mean) < 0.005
