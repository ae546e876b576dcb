"""Deterministic changes to bytes and to JSON documents, as a hostile or broken sender would make them."""

import copy
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_PACKINGS = ("B", "<H", ">H", "<I", ">I", "<Q", ">Q")
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 7.5, 10**5, 10**9, 2**63, 1e308, float("nan"), "", "x", "\0", "../../etc/passwd",
    "hf-hub:evil/model", "local-dir:/", "https://127.0.0.1:9/x", [], [0], [[]], {}, {"a": {}}, "A" * 5000, ["x"] * 2000,
)  # fmt: skip
MAX_GROWTH_BYTES = 1 << 20


def mutate_bytes(data: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    """One to six changes of the data.

    Args:
        data: what to change; it is left as it is.
        source: decides everything.
        others: more data of the same kind, pieces of which may be spliced in.

    Returns:
        The changed data, at most 1 MiB longer.
    """
    changed = bytearray(data)
    for _ in range(source.randint(1, 6)):
        source.choice(_BYTE_CHANGES)(changed, source, source.choice(others))
        del changed[len(data) + MAX_GROWTH_BYTES :]
    return bytes(changed)


def mutate_json(document: Any, source: random.Random) -> Any:
    """A copy of a JSON document with one to three values replaced, removed or renamed."""
    changed = copy.deepcopy(document)
    for _ in range(source.randint(1, 3)):
        places = list(_places(changed))
        if not places:
            return changed
        container, key = source.choice(places)
        action = source.random()
        if action < 0.7:
            container[key] = copy.deepcopy(source.choice(_VALUES))
        elif action < 0.9:
            del container[key]
        elif isinstance(container, dict):
            container[source.choice(("x", f"{key}_", "size", "name"))] = container.pop(key)
    return changed


def _places(node: Any) -> Any:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        yield node, key
        yield from _places(value)


def _span(data: bytearray, source: random.Random) -> tuple[int, int]:
    start = source.randrange(len(data) + 1)
    return start, min(len(data), start + source.choice((1, 4, 16, 64, 512)))


def _flip_bit(data: bytearray, source: random.Random, other: bytes) -> None:
    if data:
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)


def _write_number(data: bytearray, source: random.Random, other: bytes) -> None:
    packing = source.choice(_PACKINGS)
    size = struct.calcsize(packing)
    start = source.randrange(max(1, len(data) - size))
    value = source.choice(_NUMBERS) % (1 << 8 * size)
    data[start : start + size] = struct.pack(packing, value)


def _cut_end(data: bytearray, source: random.Random, other: bytes) -> None:
    del data[source.randrange(len(data) + 1) :]


def _delete(data: bytearray, source: random.Random, other: bytes) -> None:
    start, end = _span(data, source)
    del data[start:end]


def _repeat(data: bytearray, source: random.Random, other: bytes) -> None:
    start, end = _span(data, source)
    data[start:start] = bytes(data[start:end]) * source.choice((1, 2, 30, 1000))


def _insert_noise(data: bytearray, source: random.Random, other: bytes) -> None:
    start, _ = _span(data, source)
    data[start:start] = source.randbytes(source.choice((1, 8, 100)))


def _splice(data: bytearray, source: random.Random, other: bytes) -> None:
    start, end = _span(data, source)
    from_start, from_end = _span(bytearray(other), source)
    data[start:end] = other[from_start:from_end]


_BYTE_CHANGES: tuple[Callable[[bytearray, random.Random, bytes], None], ...] = (
    _flip_bit, _flip_bit, _write_number, _write_number, _cut_end, _delete, _repeat, _insert_noise, _splice,
)  # fmt: skip
