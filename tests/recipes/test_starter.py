"""The starter's recipe on pictograms made here: no package is fetched."""

import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from paint_core.models import load_base
from recipes.starter.batches import Material
from recipes.starter.captions import Words, caption, main_colour, read_words
from recipes.starter.corpus import Corpus
from recipes.starter.curves import read_log, save_curves
from recipes.starter.evaluate import others
from recipes.starter.model import WEIGHTS_FILE, build_model, export
from recipes.starter.names import is_mirrored, thing
from recipes.starter.pictures import on_white, show, write_names
from recipes.starter.render import SIDE, drawings, rendered_items
from recipes.starter.sources import FetchError, Source, read_sources, require_integrity
from recipes.starter.train import Settings, Step, train

NEVER_TRAINED_ON = {"emojione", "emojione-v1", "streamline-emojis", "fxemoji", "noto-v1", "fluent-emoji-high-contrast"}
NAMES = ("apple", "boat", "cloud", "door", "egg", "fish", "grape", "left arrow")


def icon_set(bodies: Mapping[str, str]) -> dict[str, Any]:
    return {
        "prefix": "test",
        "width": 10,
        "height": 10,
        "icons": {slug: {"body": body} for slug, body in bodies.items()},
    }


def corpus() -> Corpus:
    source = np.random.default_rng(0)
    pictures = source.integers(0, 256, (2 * len(NAMES), 16, 16, 4), dtype=np.uint8)
    return Corpus(
        pictures=pictures,
        is_plain=np.arange(len(pictures)) % 2 == 0,
        colours=[""] * len(pictures),
        names=NAMES,
        members=[np.array([2 * index, 2 * index + 1]) for index in range(len(NAMES))],
        words=[Words()] * len(NAMES),
        weights=np.full(len(NAMES), 1 / len(NAMES)),
    )


def test_held_out_vendors_are_never_trained_on_and_every_licence_lets_weights_be_given_away() -> None:
    trained = {source.name for role in ("emoji", "icons") for source in read_sources(role)}  # type: ignore[arg-type]
    assert not trained & NEVER_TRAINED_ON
    free = {"MIT", "ISC", "Apache-2.0", "CC0-1.0", "CC-BY-3.0", "CC-BY-4.0"}
    assert {source.licence for source in read_sources()} <= free


@pytest.mark.parametrize(
    ("slug", "is_emoji", "name"),
    [
        ("cat-face", True, "cat face"),
        ("astronaut-2", True, "astronaut"),
        ("man-medium-dark-skin-tone", True, None),
        ("woman-dark-skin-tone-blond-hair", True, None),
        ("flag-france", True, None),
        ("chequered-flag", True, "chequered flag"),
        ("keycap-3", True, None),
        ("a-button", True, None),
        ("camera-20-filled", False, "camera"),
        ("camera-outline", False, "camera"),
        ("numeric-1-box", False, None),
        ("alpha-b-circle", False, None),
        ("five", False, None),
        ("filled", False, None),
    ],
)
def test_an_icon_is_called_what_it_shows_or_left_out(slug: str, is_emoji: bool, name: str | None) -> None:
    assert thing(slug, is_emoji=is_emoji) == name


def test_an_archive_that_is_not_the_pinned_one_is_refused_and_removed(tmp_path: Path) -> None:
    archive = tmp_path / "package.tgz"
    with tarfile.open(archive, "w:gz"):
        pass
    source = Source("@iconify-json/noto", "1.0.0", "sha512-AAAA", "emoji", "Apache-2.0", "somebody")
    with pytest.raises(FetchError, match="pinned is sha512-AAAA"):
        require_integrity(source, archive)
    assert not archive.exists()


def test_pictograms_are_rendered_and_empty_or_broken_ones_left_out() -> None:
    icons = icon_set(
        {
            "square-filled": '<path fill="currentColor" d="M0 0h10v10H0z"/>',
            "sun": '<circle cx="5" cy="5" r="3" fill="#f00"/>',
            "nothing": "",
            "broken": "<path d=",
            "keycap-1": '<path d="M0 0h10v10H0z"/>',
        }
    )
    names, pictures = rendered_items(list(drawings(icons, is_emoji=False)))
    assert names == ("square", "sun")
    assert pictures.shape == (2, SIDE, SIDE, 4)
    assert (pictures[0] == (0, 0, 0, 255)).all()
    assert tuple(pictures[1, SIDE // 2, SIDE // 2]) == (255, 0, 0, 255)
    assert pictures[1, 0, 0, 3] == 0
    assert [main_colour(picture) for picture in pictures] == ["black", "red"]
    shown = on_white(pictures, 64)
    assert shown.shape == (2, 64, 64, 3)
    assert shown[1, 0, 0].tolist() == [255, 255, 255]


def test_captions_say_the_name_a_tag_or_the_kind() -> None:
    words = read_words([{"label": "dog face", "tags": ["dog face", "pet"], "group": 3, "subgroup": 34}])
    assert words == {"dog face": Words(("pet",), "an animal")}
    source = np.random.default_rng(0)
    said = [caption("dog face", words["dog face"], "brown", source) for _ in range(400)]
    shares = {
        text: sum(text in each for each in said) / len(said) for text in ("dog face", "pet", "an animal", "brown")
    }
    assert 0.7 < shares["dog face"] < 0.9
    assert 0.05 < shares["pet"] < 0.2
    assert 0.03 < shares["an animal"] < 0.15
    assert 0.1 < shares["brown"] < 0.3


def test_a_batch_has_no_name_twice_and_pictures_of_its_names() -> None:
    names, rows = corpus().draw(len(NAMES), np.random.default_rng(1))
    assert sorted(names) == list(range(len(NAMES)))
    assert (rows // 2 == names).all()


def shown(seed: int, may_flip: bool = True) -> Tensor:
    pictures, plain = torch.from_numpy(corpus().pictures), torch.from_numpy(corpus().is_plain)
    strips = torch.from_numpy(write_names([name for name in NAMES for _ in range(2)], 32))
    flips = torch.full((len(pictures),), may_flip)
    return show(pictures, plain, flips, strips, 32, torch.Generator().manual_seed(seed))


def test_pictures_are_a_function_of_their_generator() -> None:
    first = shown(0)
    assert first.shape == (2 * len(NAMES), 32, 32, 3)
    assert 0 <= first.min() < first.max() <= 255
    assert torch.equal(first, shown(0))
    assert not torch.equal(first, shown(1))


def test_what_points_to_a_side_is_not_mirrored() -> None:
    assert is_mirrored("left arrow")
    assert not is_mirrored("apple")
    assert not torch.equal(shown(0, may_flip=False), shown(0, may_flip=True))


def test_names_are_written_inside_their_strip() -> None:
    strips = write_names(["a", "a very long name of something"], 64)
    assert strips.shape[0] == 2
    assert strips.shape[2] == 64
    assert (strips.max(axis=(1, 2)) > 128).all()


def test_each_name_is_given_another_one() -> None:
    for seed in range(20):
        given = others(NAMES, np.random.default_rng(seed))
        assert sorted(given) == sorted(NAMES)
        assert all(one != other for one, other in zip(NAMES, given, strict=True))


class StopError(Exception):
    """What a caller stops a run with."""


def test_a_run_that_was_stopped_ends_with_the_same_bits_and_open_clip_loads_it(tmp_path: Path) -> None:
    settings = Settings(steps=4, batch_size=8, warmup_steps=1)
    whole = train(Material(corpus()), settings, tmp_path / "whole", log_every=2)

    def stop(_: Step) -> None:
        raise StopError

    with pytest.raises(StopError):
        train(Material(corpus()), settings, tmp_path / "stopped", checkpoint_seconds=0, log_every=2, on_step=stop)
    resumed = train(Material(corpus()), settings, tmp_path / "stopped", log_every=2)
    assert whole.keys() == resumed.keys()
    assert all(bool(torch.isfinite(tensor).all()) for tensor in whole.values())
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    export(whole, settings.tower, tmp_path / "model")
    base = load_base(f"local-dir:{tmp_path / 'model'}")
    assert base.image_size == 64
    lines = (tmp_path / "stopped" / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", "2", "4"]


def test_a_run_that_starts_from_a_model_goes_on_from_its_weights(tmp_path: Path) -> None:
    settings = Settings(steps=1, batch_size=8, warmup_steps=0)
    export(train(Material(corpus()), settings, tmp_path / "first"), settings.tower, tmp_path / "model")
    still = Settings(steps=2, batch_size=8, warmup_steps=0, learning_rate=0.0, start_from=str(tmp_path / "model"))
    export(train(Material(corpus()), still, tmp_path / "second"), still.tower, tmp_path / "again")
    first, again = (load_file(tmp_path / name / WEIGHTS_FILE) for name in ("model", "again"))
    for name, tensor in again.items():
        if tensor.is_floating_point() and name != "logit_scale":
            torch.testing.assert_close(tensor.float(), first[name].float(), rtol=1e-3, atol=1e-6)


def test_a_text_tower_that_is_taken_from_a_model_is_kept_while_the_image_tower_learns(tmp_path: Path) -> None:
    settings = Settings(steps=1, batch_size=8, warmup_steps=0)
    export(train(Material(corpus()), settings, tmp_path / "first"), settings.tower, tmp_path / "model")
    taught = replace(settings, tower="convnext_femto", seed=1, text_from=str(tmp_path / "model"))
    weights = train(Material(corpus()), taught, tmp_path / "second")
    stored = load_file(tmp_path / "model" / WEIGHTS_FILE)
    texts = {name: tensor for name, tensor in stored.items() if name.startswith("text.")}
    assert all(torch.equal(weights[name].to(tensor.dtype), tensor) for name, tensor in texts.items())
    fresh = build_model("convnext_femto", 1).state_dict()
    moved = [name for name in fresh if name.startswith("visual.") and not torch.equal(weights[name], fresh[name])]
    assert len(moved) > 50


def test_of_a_step_that_was_done_again_the_last_time_is_drawn(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("step,loss,logit_scale,pictures_per_second\n50,5,14,90\n100,4,14,90\n50,3,14,80\n")
    assert read_log(log) == {
        50: {"loss": 3, "logit_scale": 14, "pictures_per_second": 80},
        100: {"loss": 4, "logit_scale": 14, "pictures_per_second": 90},
    }
    save_curves(log, Settings(steps=100), tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as drawn:
        assert drawn.format == "PNG"
