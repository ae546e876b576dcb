"""Heads are built once and kept as long as there is room."""

import weakref
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from app.serving.head_cache import HeadCache
from paint_core.models import BaseModel, load_base

WAITER: Future[object] = Future()
"""Somebody who waits for ever."""


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("starter")


@pytest.fixture
def cache(base: BaseModel) -> Iterator[HeadCache]:
    cache = HeadCache(1000, num_cores=1, max_bytes=2 * (4 * base.embed_dim + 200))  # two labels fit, three do not
    yield cache
    cache.close()


def test_a_head_is_built_once_and_the_one_not_used_for_longest_goes_first(cache: HeadCache, base: BaseModel) -> None:
    first = cache.get(base, ("a",), ("{}",), WAITER)
    assert cache.get(base, ("a",), ("{}",), WAITER) is first
    assert first.result().shape == (1, base.embed_dim)
    cache.get(base, ("c",), ("{}",), WAITER)
    assert cache.get(base, ("a",), ("{}",), WAITER) is first
    cache.get(base, ("d",), ("{}",), WAITER)
    assert len(cache) == 2
    assert cache.get(base, ("a",), ("{}",), WAITER) is first
    assert cache.get(base, ("c",), ("{}",), WAITER) is not first


def test_heads_are_bounded_by_bytes_and_the_newest_is_kept_whatever_it_takes(cache: HeadCache, base: BaseModel) -> None:
    for label in "abc":
        cache.get(base, (label,), ("{}",), WAITER)
    assert len(cache) == 2
    large = cache.get(base, tuple(map(str, range(50))), ("{}",), WAITER)
    assert len(cache) == 1
    assert cache.get(base, tuple(map(str, range(50))), ("{}",), WAITER) is large
    assert cache.num_bytes > 50 * 4 * base.embed_dim


def test_the_same_labels_with_other_templates_are_another_head(cache: HeadCache, base: BaseModel) -> None:
    assert cache.get(base, ("a",), ("{}",), WAITER) is not cache.get(base, ("a",), ("a {}",), WAITER)


def test_a_cached_head_holds_on_to_no_request_that_waited_for_it(cache: HeadCache, base: BaseModel) -> None:
    waiter: Future[object] = Future()
    alive = weakref.ref(waiter)
    cache.get(base, ("a",), ("{}",), waiter).result()
    del waiter
    assert alive() is None
    assert len(cache) == 1


def test_a_head_that_could_not_be_built_is_not_kept(cache: HeadCache, base: BaseModel) -> None:
    failed = cache.get(base, ("a", "a"), ("{}",), WAITER)
    assert failed.exception() is not None
    assert cache.get(base, ("a", "a"), ("{}",), WAITER) is not failed
