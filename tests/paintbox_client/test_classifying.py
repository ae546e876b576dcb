"""What the client and `paintbox` classify and embed with, against a real service."""

import math
from pathlib import Path

import pytest

from paintbox_client import ApiError
from tests.builders import digit_pngs
from tests.paintbox_client.conftest import Served
from tests.paintbox_client.inside import run

LABELS = ["digit zero", "digit one", "[a label that looks like a list]", "ein Label mit ö & 1+1=2"]
IMAGES = [digit_pngs(0)[0], digit_pngs(1)[0]]


def test_one_image_is_answered_as_it_is_among_others(served: Served) -> None:
    for options in ({}, {"templates": ["a {} icon"], "top_k": 2}, {"threshold": 0.1, "multi_label": True}):
        alone = served.client.classify(IMAGES[:1], LABELS, version="active", timeout_ms=60_000, **options)
        among = served.client.classify(IMAGES, LABELS, version="active", timeout_ms=60_000, **options)
        first, other = alone["results"][0]["predictions"], among["results"][0]["predictions"]
        assert [each["label"] for each in first] == [each["label"] for each in other]
        assert [each["score"] for each in first] == pytest.approx([each["score"] for each in other], abs=1e-4)
        assert alone["templates"] == among["templates"]


def test_more_labels_than_an_address_holds_are_sent_too(served: Served) -> None:
    labels = [f"label number {number}" for number in range(500)]
    answer = served.client.classify(IMAGES[:1], labels, templates=["a {}"])
    assert len(answer["results"][0]["predictions"]) == 500


def test_a_label_set_is_stored_named_listed_and_removed(served: Served) -> None:
    client = served.client
    made = client.create_label_set(LABELS, ["a {}"], "some labels")
    assert client.create_label_set(LABELS, ["a {}"])["id"] == made["id"]
    assert client.label_set(made["id"])["labels"] == LABELS
    assert made["id"] in [each["id"] for each in client.label_sets()]
    image = IMAGES[:1]  # one, for the bits of a row may depend on its batch
    named = client.classify(image, label_set=made["id"])
    assert named["results"] == client.classify(image, LABELS, templates=["a {}"])["results"]
    client.delete_label_set(made["id"])
    with pytest.raises(ApiError) as gone:
        client.classify(IMAGES, label_set=made["id"])
    assert gone.value.status == 404


def test_images_and_texts_are_embedded_as_unit_vectors(served: Served) -> None:
    for answer in (
        served.client.embed(IMAGES[:1]),
        served.client.embed(IMAGES, version="active", timeout_ms=60_000),
        served.client.embed_texts(LABELS, version=1),
    ):
        for each in answer["embeddings"]:
            assert len(each["embedding"]) == answer["dim"]
            assert math.hypot(*each["embedding"]) == pytest.approx(1, abs=1e-5)
    image = served.client.embed(IMAGES[:1])["embeddings"][0]["embedding"]
    text = served.client.embed_texts(LABELS[:1])["embeddings"][0]["embedding"]
    answer = served.client.classify(IMAGES[:1], LABELS[:1], templates=["{}"])
    cosine = sum(a * b for a, b in zip(image, text, strict=True))
    assert cosine == pytest.approx(answer["results"][0]["predictions"][0]["cosine"], abs=1e-4)


def test_the_command_stores_label_sets_and_classifies_with_them(served: Served, tmp_path: Path) -> None:
    url = ("--url", served.url)
    (tmp_path / "zero.png").write_bytes(IMAGES[0])
    (tmp_path / "labels.txt").write_text("digit zero\n\n digit one\n", encoding="utf-8")
    made = run(*url, "label-sets", "create", "--file", tmp_path / "labels.txt", "--label", "taco", "--name", "some")
    identifier = made.out.strip()
    assert served.client.label_set(identifier)["labels"] == ["taco", "digit zero", "digit one"]
    assert identifier in run(*url, "label-sets", "list").out
    asked = ("classify", tmp_path / "zero.png", "--label-set", identifier, "--version", "1", "--multi-label", "--json")
    answer = run(*url, *asked).json
    assert (answer["version"], answer["alias"], len(answer["results"][0]["predictions"])) == (1, None, 3)
    assert run(*url, *asked, "--threshold", "1").json["results"][0]["predictions"] == []
    assert run(*url, "label-sets", "delete", identifier).status == 0
    assert run(*url, *asked).status == 1
    assert run(*url, "label-sets", "create").status == 2
