"""The part of the starter's recipe that takes photographs, on photographs and a WordNet made here."""

import copy
import itertools
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from paint_core.models import load_base
from recipes.starter.adapt import clothing, grocery, link, tiny_imagenet
from recipes.starter.batches import Batch, Material, Mix, batches
from recipes.starter.captions import Words, photo_caption
from recipes.starter.checkpoint import export_checkpoint
from recipes.starter.depthwise import speed_up
from recipes.starter.evaluate_photographs import judge_photographs, judge_words
from recipes.starter.lettering import FONTS, UNSEEN_FONTS, alone, draw_words, over
from recipes.starter.model import SIDE, export, tokenizer
from recipes.starter.photographs import Photographs, load_photographs, read_words
from recipes.starter.train import Settings, train
from recipes.starter.views import view
from recipes.starter.wordnet import WordNet
from tests.recipes.test_starter import StopError, corpus

DOG, BEAGLE, TIGER = "n00000001", "n00000002", "n00000003"


def photograph(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (90, 70)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def photographs() -> Photographs:
    pixels = np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)
    words = [Words(tags=("hound",), kinds=(("dog", 2.0), ("animal", 1.0))), Words(kinds=(("dog", 1.0),)), Words()]
    return Photographs(pixels, np.array([0, 0, 1, 1, 2, 2]), ["beagle", "poodle", "apple"], words)


def wordnet(folder: Path) -> WordNet:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        "  1 This software and database is being provided to you",
        "00000001 05 n 02 dog 0 domestic_dog 0 001 @ 00000009 n 0000 | a canine",
        "00000002 05 n 03 beagle 0 small_hound 0 Canis_familiaris 0 001 @ 00000001 n 0000 | a hound",
        "00000003 05 n 01 tiger 0 002 @ 00000009 n 0000 ~ 00000002 n 0000 | a large cat",
        "00000009 05 n 02 animal 0 organism 1 000 | a living thing",
    ]
    (folder / "data.noun").write_text("\n".join(lines) + "\n", encoding="ascii")
    counts = "dog%1:05:00:: 1 81\nanimal%1:05:00:: 1 16\norganism%1:05:01:: 1 99\ndomestic_dog%1:05:00:: 1 1\n"
    (folder / "cntlist.rev").write_text(counts, encoding="ascii")
    return WordNet(folder)


def test_a_photograph_s_synonyms_and_kinds_are_what_wordnet_says_in_words_that_people_use(tmp_path: Path) -> None:
    words = wordnet(tmp_path).words(BEAGLE)
    assert wordnet(tmp_path).name(BEAGLE) == "beagle"
    assert words.tags == ("small hound",)  # the Latin name is left out
    assert words.kinds == (("dog", 3.0), ("animal", 0.5))  # rare and too wide ones are left out; nearer ones weigh more


def test_tiny_imagenet_becomes_class_folders_with_names(tmp_path: Path) -> None:
    root = tmp_path / "fetched" / "tiny-imagenet-200"
    photograph(root / "train" / BEAGLE / "images" / "a.JPEG", (200, 0, 0))
    photograph(root / "val" / "images" / "val_0.JPEG", (0, 200, 0))
    (root / "wnids.txt").write_text(f"{BEAGLE}\n{TIGER}\n", encoding="ascii")
    (root / "val" / "val_annotations.txt").write_text(f"val_0.JPEG\t{TIGER}\t0\t0\t9\t9\n", encoding="ascii")
    link(*tiny_imagenet(tmp_path / "fetched", wordnet(tmp_path / "wordnet")), tmp_path / "into")
    loaded = load_photographs([tmp_path / "into" / "train"], tmp_path / "work")
    assert loaded.names == ["beagle"]
    assert loaded.words[0].kinds[0][0] == "dog"
    assert loaded.pictures.shape == (1, SIDE, SIDE, 3)
    assert abs(int(loaded.pictures[0, 9, 9, 0]) - 200) < 5
    assert list(load_photographs([tmp_path / "into" / "val"], tmp_path / "work").names) == ["tiger"]


def test_groceries_and_clothes_become_class_folders_with_names(tmp_path: Path) -> None:
    photograph(tmp_path / "g" / "dataset" / "train" / "Fruit" / "Apple" / "Pink-Lady" / "a.jpg", (9, 9, 9))
    header = "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int)\n"
    (tmp_path / "g" / "dataset" / "classes.csv").write_text(f"{header}Pink-Lady,0,Apple,0\n", encoding="ascii")
    photograph(tmp_path / "c" / "validation" / "longsleeve" / "b.jpg", (9, 9, 9))
    link(*grocery(tmp_path / "g"), tmp_path / "groceries")
    link(*clothing(tmp_path / "c"), tmp_path / "clothes")
    assert read_words(tmp_path / "groceries" / "train") == {
        "Pink-Lady": ("pink lady apple", Words(kinds=(("apple", 1.0), ("fruit", 1.0))))
    }
    assert read_words(tmp_path / "clothes" / "val")["longsleeve"][0] == "long sleeve shirt"


def test_photographs_are_read_once_and_folders_of_one_name_are_one_class(tmp_path: Path) -> None:
    for folder, name in (("a", "polar_bear"), ("b", "Polar bear"), ("b", "tiger")):
        photograph(tmp_path / folder / name / "1.png", (10, 20, 30))
    folders = [tmp_path / "a", tmp_path / "b"]
    loaded = load_photographs(folders, tmp_path / "work")
    assert loaded.names == ["polar bear", "tiger"]
    assert [len(rows) for rows in loaded.members()] == [2, 1]
    (array,) = (tmp_path / "work").glob("*.npy")
    written = array.stat().st_mtime_ns
    assert (load_photographs(folders, tmp_path / "work").pictures == loaded.pictures).all()
    assert array.stat().st_mtime_ns == written
    photograph(tmp_path / "b" / "tiger" / "2.png", (1, 2, 3))
    assert len(load_photographs(folders, tmp_path / "work").pictures) == 4


def test_captions_of_photographs_say_the_name_a_synonym_or_a_kind() -> None:
    source = np.random.default_rng(0)
    said = [photo_caption("beagle", photographs().words[0], source) for _ in range(400)]
    assert all(what in text for text, what in said)
    shares = {name: sum(what == name for _, what in said) / len(said) for name in ("beagle", "hound", "dog", "animal")}
    assert 0.4 < shares["beagle"] < 0.7
    assert shares["dog"] > shares["animal"] > 0
    assert shares["hound"] > 0.05


def drawn(font: str) -> NDArray[np.uint8]:
    return draw_words(["apple", "strawberry"], SIDE, np.random.default_rng(0), (font,))


@pytest.mark.parametrize("font", [*FONTS, *UNSEEN_FONTS])
def test_words_can_be_drawn_in_every_font(font: str) -> None:
    masks = drawn(font)
    assert masks.shape == (2, SIDE, SIDE)
    assert (masks.max(axis=(1, 2)) > 128).all()
    assert (masks.mean(axis=(1, 2)) < 128).all()


def test_the_fonts_that_judge_are_not_trained_with() -> None:
    assert not set(FONTS) & set(UNSEEN_FONTS)


def test_a_word_alone_stands_out_and_one_over_a_picture_leaves_the_rest_as_it_was() -> None:
    masks = torch.from_numpy(drawn("DejaVuSans"))
    shown = alone(masks, torch.Generator().manual_seed(0))
    for picture, mask in zip(shown, masks, strict=True):
        ink, ground = picture[mask > 150].mean(), picture[mask == 0].mean()
        assert abs(ink - ground) > 15
    grey = torch.full((2, SIDE, SIDE, 3), 100.0)
    assert (over(grey, masks, torch.Generator().manual_seed(0))[masks == 0] == 100).all()


def test_views_are_a_function_of_their_generator_and_keep_the_colours_range() -> None:
    pictures = torch.from_numpy(photographs().pictures)
    first, again, other = (view(pictures, 32, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert first.shape == (6, 32, 32, 3)
    assert 0 <= first.min() < first.max() <= 255
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def batch(photo_share: float = 0.5) -> Batch:
    mix = Mix(size=8, photo_share=photo_share, word_share=0.2)
    material = Material(corpus(), photographs() if photo_share else None)
    return next(iter(batches(material, mix, 0, lambda _: 32, range(1))))[1]


@pytest.mark.parametrize("photo_share", [0.0, 0.5])
def test_a_batch_is_a_function_of_seed_and_step_and_each_caption_is_its_picture_s_own(photo_share: float) -> None:
    made, again = batch(photo_share), batch(photo_share)
    assert made.pixels.shape == (8, 3, 32, 32)
    assert -1 <= made.pixels.min() < made.pixels.max() <= 1
    assert made.is_own.diagonal().all()
    assert bool((made.is_true | ~made.is_own).all())
    assert torch.equal(made.pixels, again.pixels)
    assert torch.equal(made.tokens, again.tokens)


def test_what_is_true_of_a_photograph_in_other_words_is_neither_its_own_caption_nor_another_s() -> None:
    """Beagles and poodles are dogs: what says "dog" is true of both, and an apple's caption of neither."""
    material, decode = Material(corpus(), photographs()), tokenizer().decode
    seen = set()
    for _, made in batches(material, Mix(8, 1.0, 0.0), 0, lambda _: 32, range(20)):
        texts = [decode(row[1 : int((row == 0).nonzero()[0]) - 1].tolist()).strip() for row in made.tokens]
        for row, column in itertools.product(range(8), repeat=2):
            seen.add((texts[row].split()[-1], texts[column].split()[-1], *_relation(made, row, column)))
    assert ("apple", "apple", "own") in seen
    assert ("beagle", "poodle", "another") in seen
    assert ("poodle", "dog", "true") in seen
    assert {"own", "true"} >= {relation for row, column, relation in seen if (row, column) == ("beagle", "dog")}
    assert {relation for row, column, relation in seen if "apple" in {row, column} and row != column} == {"another"}


def _relation(made: Batch, row: int, column: int) -> tuple[str]:
    if made.is_own[row, column]:
        return ("own",)
    return ("true" if made.is_true[row, column] else "another",)


@pytest.mark.parametrize("side", [2, 3, 8])
def test_the_faster_backward_pass_of_depthwise_convolutions_gives_the_same_gradients(side: int) -> None:
    plain = nn.Conv2d(12, 12, 7, padding=3, groups=12)
    fast = copy.deepcopy(plain)
    speed_up(fast)
    assert type(fast) is not type(plain)
    maps, weights = torch.randn(5, 12, side, side), torch.randn(5, 12, side, side)
    inputs = [maps.clone().requires_grad_() for _ in range(2)]
    for module, given in zip((plain, fast), inputs, strict=True):
        (module(given) * weights).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close(plain.weight.grad, fast.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close([*plain.parameters()][1].grad, [*fast.parameters()][1].grad, rtol=1e-4, atol=1e-4)


def test_a_run_with_photographs_that_was_stopped_ends_with_the_same_bits(tmp_path: Path) -> None:
    settings = Settings(steps=4, batch_size=8, warmup_steps=1)
    material = Material(corpus(), photographs())
    whole = train(material, settings, tmp_path / "whole", log_every=2)

    def stop(_: object) -> None:
        raise StopError

    with pytest.raises(StopError):
        train(material, settings, tmp_path / "stopped", checkpoint_seconds=0, log_every=2, on_step=stop)
    (tmp_path / "stopped" / "settings.json").write_text(json.dumps(asdict(settings)), encoding="utf-8")
    assert export_checkpoint(tmp_path / "stopped", tmp_path / "early") == (2, settings.small_side)
    assert load_base(f"local-dir:{tmp_path / 'early'}").image_size == settings.small_side
    resumed = train(material, settings, tmp_path / "stopped", log_every=2)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    export(whole, settings.tower, tmp_path / "model")
    base = load_base(f"local-dir:{tmp_path / 'model'}")
    for name in ("airplane", "cat"):
        photograph(tmp_path / "cifar" / name / "1.png", (9, 99, 199), (32, 32))
    scores = [*judge_photographs(base, "cifar10", tmp_path / "cifar", most=10), judge_words(base)]
    assert [each.score.total for each in scores] == [2, 2, 500]
    assert str(scores[0]).startswith("cifar10, 2 names: top-1 ")
