"""A starter that learns from a teacher's features, and the text tower's shortcut in training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recipes.starter.adapt import four_animals, link
from recipes.starter.batches import Material, Mix, batches
from recipes.starter.model import build_model, tokenizer
from recipes.starter.photographs import Photographs, load_photographs
from recipes.starter.student import encode_texts
from recipes.starter.teacher import principal_components
from recipes.starter.train import Settings, train
from tests.recipes.test_photographs import photograph, photographs
from tests.recipes.test_starter import StopError, corpus


def taught() -> Photographs:
    teacher_features = np.arange(6, dtype=np.float16)[:, None] + np.linspace(1, 3, 8, dtype=np.float16)
    return replace(photographs(), teacher_features=teacher_features)


def test_the_text_tower_without_padding_says_what_open_clip_s_says() -> None:
    text = build_model("convnext_atto", seed=0).text.eval()
    tokens = tokenizer()(["cat", "a photo of an old english sheepdog on a green lawn", "a dog", "x y z", ""])
    with torch.no_grad():
        torch.testing.assert_close(encode_texts(text, tokens), text(tokens), rtol=1e-4, atol=1e-5)


def test_components_are_centred_and_uncorrelated_and_the_first_varies_most() -> None:
    seen = np.random.default_rng(0).normal(size=(500, 6)).astype(np.float32) @ np.diag([9, 5, 3, 2, 1, 0.5])
    kept = principal_components(seen.astype(np.float32), count=4)
    assert kept.shape == (500, 4)
    assert np.abs(kept.mean(axis=0)).max() < 1e-3
    covariance = kept.T @ kept / len(kept)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-3
    np.testing.assert_allclose(np.diag(covariance) ** 2, np.sort(seen.var(axis=0))[::-1][:4], rtol=0.1)


def test_a_batch_brings_what_the_teacher_sees_in_its_photographs() -> None:
    material = Material(corpus(), taught())
    _, made = next(iter(batches(material, Mix(8, 0.5, 0.2), 0, lambda _: 32, range(1))))
    assert made.teacher_features.shape == (4, 8)
    assert {float(row[0]) for row in made.teacher_features} <= set(range(1, 7))
    _, without = next(iter(batches(Material(corpus(), photographs()), Mix(8, 0.5, 0.2), 0, lambda _: 32, range(1))))
    assert len(without.teacher_features) == 0
    assert torch.equal(made.pixels, without.pixels)


def test_a_run_with_a_teacher_that_was_stopped_ends_with_the_same_bits_and_exports_no_more(tmp_path: Path) -> None:
    settings, material = Settings(steps=4, batch_size=8, warmup_steps=1), Material(corpus(), taught())
    whole = train(material, settings, tmp_path / "whole", log_every=2)

    def stop(_: object) -> None:
        raise StopError

    with pytest.raises(StopError):
        train(material, settings, tmp_path / "stopped", checkpoint_seconds=0, log_every=2, on_step=stop)
    resumed = train(material, settings, tmp_path / "stopped", log_every=2)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    untaught = train(Material(corpus(), photographs()), settings, tmp_path / "untaught", log_every=2)
    assert whole.keys() == untaught.keys()
    assert not all(torch.equal(whole[name], untaught[name]) for name in whole)


def test_four_animals_become_class_folders(tmp_path: Path) -> None:
    photograph(tmp_path / "fetched" / "train" / "horse" / "horse_1.jpg", (9, 9, 9))
    link(*four_animals(tmp_path / "fetched"), tmp_path / "into")
    loaded = load_photographs([tmp_path / "into" / "train"], tmp_path / "work")
    assert loaded.names == ["horse"]
    assert loaded.words[0].kinds == (("animal", 1.0),)
