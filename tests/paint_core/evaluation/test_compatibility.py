"""How far an index stays usable: recall of the old neighbours by the new queries."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paint_core.evaluation.compatibility import compare_embeddings


def draw(count: int, width: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def recall_by_hand(old: torch.Tensor, new: torch.Tensor, neighbours: int) -> list[float]:
    old, new = (torch.nn.functional.normalize(each, dim=-1) for each in (old, new))
    found = []
    for place in range(len(old)):
        others = [each for each in range(len(old)) if each != place]
        ranked = [
            set(sorted(others, key=lambda other: -float(queries[place] @ old[other]))[:neighbours])
            for queries in (old, new)
        ]
        found.append(len(ranked[0] & ranked[1]) / min(neighbours, len(others)))
    return found


@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 99))
def test_recall_is_the_share_of_the_old_neighbours_that_the_new_queries_find(
    count: int, neighbours: int, seed: int
) -> None:
    old, new = draw(count, seed=seed), draw(count, seed=seed) + 0.5 * draw(count, seed=seed + 1)
    compared = compare_embeddings(old, new, neighbours)
    torch.testing.assert_close(compared.recall, torch.tensor(recall_by_hand(old, new, neighbours)))
    torch.testing.assert_close(compared.cosine, torch.cosine_similarity(old, new))


def test_the_same_model_keeps_its_index_whole_and_lengths_do_not_matter() -> None:
    old = draw(1200)
    compared = compare_embeddings(old, 3 * old)
    assert compared.recall.unique().tolist() == [1.0]
    torch.testing.assert_close(compared.cosine, torch.ones(1200))


def test_a_model_that_answers_by_chance_finds_neighbours_by_chance() -> None:
    compared = compare_embeddings(draw(1500, 32), draw(1500, 32, seed=9))
    assert float(compared.recall.mean()) == pytest.approx(10 / 1499, abs=0.01)


def test_one_image_has_no_neighbours() -> None:
    assert len(compare_embeddings(draw(1), draw(1)).recall) == 0


def test_the_index_is_not_changed() -> None:
    old, new = draw(20), draw(20, seed=1)
    before = old.clone(), new.clone()
    compare_embeddings(old, new)
    assert torch.equal(old, before[0])
    assert torch.equal(new, before[1])
