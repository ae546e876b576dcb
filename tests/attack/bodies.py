"""Abusive requests: lists without end, labels by the thousand, pictures that cost, names of others' things."""

import asyncio
import base64
import itertools
import secrets
from typing import Any

from tests.attack import inputs
from tests.attack.attacker import Attacker, abuse
from tests.builders import digit_pngs

_IMAGE = base64.b64encode(digit_pngs(0)[0]).decode()
_MANY = 500_000


@abuse
async def wrong_items(attacker: Attacker) -> None:
    """A list of wrong items is not answered item by item."""
    ones = [1] * _MANY
    bodies: tuple[tuple[str, Any], ...] = (
        ("/v1/classify", {"images": [""], "candidate_labels": ones}),
        ("/v1/classify", {"images": ones, "candidate_labels": ["a"]}),
        ("/v1/embed", {"texts": ones}),
        ("/v1/label-sets", {"name": "x", "labels": ones}),
        ("/v1/versions", {"name": "x", "terms": [], "tags": ones}),
        ("/v1/patches", {"name": "x", "tasks": ones, "supported": ones}),
        ("/hf", {"inputs": _IMAGE, "parameters": {"candidate_labels": ones}}),
        ("/v1/classify", {"images": [_IMAGE], "candidate_labels": ["x" * 1_000_000]}),
        ("/v1/classify", {f"field{index}": index for index in range(100_000)}),
    )
    await attacker.repeat(*(lambda path=path, body=body: attacker.send_json(path, body) for path, body in bodies))


@abuse
async def nested(attacker: Attacker) -> None:
    """Deep nesting ends no parser's stack, and numbers without end none's patience."""
    deep, long = "[" * 100_000, "9" * 100_000
    json_headers = {"content-type": "application/json"}
    image = {"images": ("0.png", digit_pngs(0)[0])}
    await attacker.repeat(
        lambda: attacker.send("POST", "/v1/classify", content=deep, headers=json_headers),
        lambda: attacker.send("POST", "/v1/classify", data={"candidate_labels": deep}, files=image),
        lambda: attacker.send("POST", "/v1/datasets", data={"name": "x", "classnames": deep}, files={"archive": b"x"}),
        lambda: attacker.send("POST", "/v1/classify", content=f'{{"top_k": {long}}}', headers=json_headers),
        lambda: attacker.send("GET", f"/v1/jobs?cursor={secrets.token_urlsafe(3000)}"),
        lambda: attacker.send("GET", "/v1/jobs?limit=1" + "0" * 4000),
    )


@abuse
async def new_labels(attacker: Attacker) -> None:
    """Labels that nobody has asked for before, with little patience, and label sets to be built ahead."""
    numbers = itertools.count()

    async def classify() -> None:
        labels = [f"{secrets.token_hex(6)} {next(numbers)}" for _ in range(1000)]
        body = {"images": [_IMAGE], "candidate_labels": labels, "timeout_ms": 500}
        await attacker.send_json("/v1/classify", body)

    async def store() -> None:
        labels = [f"{secrets.token_hex(6)} {next(numbers)}" for _ in range(4000)]
        await attacker.send_json("/v1/label-sets", {"name": "many", "labels": labels, "templates": ["a {}", "the {}"]})

    async def embed() -> None:
        await attacker.send_json("/v1/embed", {"texts": [secrets.token_hex(8) for _ in range(4000)]})

    await attacker.repeat(*[classify] * 16, store, store, embed, embed)


@abuse
async def many_scans(attacker: Attacker) -> None:
    """A JPEG whose scans a decoder goes through by the hundred."""
    picture = await asyncio.to_thread(inputs.jpeg_of_many_scans)
    await attacker.repeat(*[lambda: _classify(attacker, [picture] * 4)] * 4)


@abuse
async def large_pictures(attacker: Attacker) -> None:
    """Fifty million pixels in a few kilobytes."""
    pictures = await asyncio.to_thread(inputs.large_pictures)
    await attacker.repeat(*[lambda p=picture: _classify(attacker, [p] * 8) for picture in pictures * 2])


@abuse
async def full_queue(attacker: Attacker) -> None:
    """As many images as the service takes, from one key."""
    pictures = [digit_pngs(0)[index] for index in range(64)]
    await attacker.repeat(*[lambda: _classify(attacker, pictures)] * 16)


@abuse
async def leaving(attacker: Attacker) -> None:
    """Clients that are gone before they are answered."""
    pictures = [digit_pngs(0)[index] for index in range(32)]

    async def leave() -> None:
        try:
            async with asyncio.timeout(0.05):
                await _classify(attacker, pictures)
        except TimeoutError:
            attacker.seen.statuses["left"] += 1

    await attacker.repeat(*[leave] * 16)


@abuse
async def others_things(attacker: Attacker) -> None:
    """Somebody else's version, by every spelling of its number, and somebody else's data set and job."""
    target = attacker.target
    number = target.version
    spellings = [
        f"{number}.0",
        f"+{number}",
        f"%20{number}",
        f"{number}%0a",
        f"{number:011}",
        f"{number}_0"[:-2],
        f"{number}e0",
    ]
    paths = [("PATCH", f"/v1/versions/{each}", {"name": "mine"}) for each in (str(number), *spellings)]
    paths += [("DELETE", f"/v1/versions/{each}", None) for each in (str(number), *spellings)]
    paths += [
        ("DELETE", f"/v1/datasets/{each}", None)
        for each in (target.dataset, target.dataset.upper(), f"{target.dataset}%20")
    ]
    paths += [("POST", f"/v1/jobs/{each}/cancel", None) for each in (target.job, f"{target.job}%00", f" {target.job}")]
    paths += [("PUT", "/v1/aliases/active", {"version": number}), ("GET", "/v1/keys", None), ("POST", "/v1/gc", None)]

    async def cross(method: str, path: str, body: Any) -> None:
        response = await (attacker.send_json(path, body, method) if body else attacker.send(method, path))
        if response is not None and response.is_success:
            attacker.seen.crossed.append(f"{method} {path}: {response.status_code}")

    for method, path, body in paths:
        await cross(method, path, body)


async def _classify(attacker: Attacker, pictures: list[bytes]) -> None:
    files = [("images", (f"{index}.bin", data)) for index, data in enumerate(pictures)]
    await attacker.send(
        "POST", "/v1/classify", data={"candidate_labels": '["cat", "dog"]', "timeout_ms": "1000"}, files=files
    )
