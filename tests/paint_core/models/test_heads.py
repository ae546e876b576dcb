import pytest
import torch
import torch.nn.functional as F

from paint_core.errors import HeadError
from paint_core.models import BaseModel, build_head
from paint_core.models.heads import fill, logits
from paint_core.models.tokenizers import _Bounded

NAMES = ["apple", "a very long name of some fruit", "pear"]


def test_a_head_has_a_unit_row_per_class_not_multiplied_by_the_scale(tiny_base: BaseModel) -> None:
    head = build_head(tiny_base, NAMES, ["{}", "a photo of a {}."])
    assert head.shape == (3, 16)
    assert head.dtype == torch.float32
    torch.testing.assert_close(head.norm(dim=1), torch.ones(3))


def test_a_row_is_the_normalised_mean_of_normalised_prompts(tiny_base: BaseModel) -> None:
    templates = ["{}", "a photo of a {}.", "two {}s"]
    prompts = [template.format("pear") for template in templates]
    encode_text = tiny_base.model.encode_text
    assert callable(encode_text)
    embeddings = F.normalize(encode_text(tiny_base.tokenizer(prompts)), dim=-1)
    expected = F.normalize(embeddings.mean(dim=0), dim=-1)
    torch.testing.assert_close(build_head(tiny_base, NAMES, templates)[2], expected)


def test_one_class_still_makes_a_matrix(tiny_base: BaseModel) -> None:
    head = build_head(tiny_base, ["pear"], ["{}"])
    assert head.shape == (1, 16)
    assert logits(torch.ones(5, 16), head, 10.0).shape == (5, 1)


def test_rows_do_not_depend_on_their_neighbours_or_on_the_chunks(tiny_base: BaseModel) -> None:
    many = [f"thing {index}" for index in range(300)]
    head = build_head(tiny_base, many, ["{}"])
    torch.testing.assert_close(head[290:], build_head(tiny_base, many[290:], ["{}"]))


def test_a_head_can_take_part_in_training(tiny_base: BaseModel) -> None:
    features = torch.ones(1, 16, requires_grad=True)
    logits(features, build_head(tiny_base, NAMES, ["{}"]), 1.0).sum().backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None


def test_logits_are_scaled_cosines_whatever_the_length_of_the_features() -> None:
    head = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), dim=-1)
    expected = torch.tensor([[10.0 + 3.0, 10.0 / 2**0.5 + 3.0]])
    torch.testing.assert_close(logits(torch.tensor([[0.01, 0.0]]), head, 10.0, 3.0), expected)
    torch.testing.assert_close(logits(torch.tensor([[500.0, 0.0]]), head, 10.0, 3.0), expected)


@pytest.mark.parametrize(
    ("template", "name", "prompt"),
    [
        ("a {}.", "cat", "a cat."),
        ("a {c}.", "cat", "a cat."),
        ("{} and {c}", "cat", "cat and cat"),
        ("a {}.", "{c} {0} {x}", "a {c} {0} {x}."),
        ("{0} {}", "cat", "{0} cat"),
        ("{}", r"back\1slash", r"back\1slash"),
    ],
)
def test_braces_in_a_classname_mean_nothing(template: str, name: str, prompt: str) -> None:
    assert fill(template, name) == prompt


@pytest.mark.parametrize(
    ("names", "templates", "message"),
    [
        ([], ["{}"], "at least one"),
        (["a", "b", "a"], ["{}"], "duplicate"),
        (["a"], [], "no templates"),
        (["a"], ["a photo"], "placeholder|no {}"),
        (["a"], ["{0}"], "no {}"),
        ("cat", ["{}"], "list"),
        (["cat"], "{}", "list"),
    ],
)
def test_what_makes_no_head_is_refused(
    tiny_base: BaseModel, names: list[str], templates: list[str], message: str
) -> None:
    with pytest.raises(HeadError, match=message):
        build_head(tiny_base, names, templates)


@pytest.mark.parametrize(("token", "is_known"), [(0, True), (9, True), (10, False), (-1, False)])
def test_a_token_is_known_if_the_embedding_has_a_row_for_it(token: int, is_known: bool) -> None:
    tokenizer = _Bounded(lambda texts: torch.tensor([[token]] * len(texts)), 10)
    if is_known:
        assert tokenizer(["a word"]).tolist() == [[token]]
    else:
        with pytest.raises(HeadError, match="not in the vocabulary"):
            tokenizer(["a word"])
