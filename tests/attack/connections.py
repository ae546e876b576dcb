"""Abusive connections: heads without end, silence, bodies that never come, readers that do not read."""

import asyncio

from tests.attack.attacker import Attacker, abuse

_CHUNK = b"a" * 65_536
_HEAD = (
    b"POST /v1/classify HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %b\r\nContent-Type: application/json\r\n"
)


@abuse
async def endless_head(attacker: Attacker) -> None:
    """A request line, a header and a number of headers without end."""
    starts = (b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")

    async def pour(start: bytes, piece: bytes) -> None:
        writer = await attacker.connect(start)
        if writer is None:
            return
        try:
            for _ in range(5_000):
                writer.write(piece)
                await writer.drain()
            attacker.seen.statuses["never refused"] += 1
        except OSError:
            attacker.seen.statuses["cut off"] += 1

    pieces = (_CHUNK, _CHUNK, b"X-A: b\r\n" * 8_000)
    await attacker.repeat(*(lambda s=start, p=piece: pour(s, p) for start, piece in zip(starts, pieces, strict=True)))


@abuse
async def silent_connections(attacker: Attacker) -> None:
    """Connections that send nothing, half a head or half a body."""
    token = attacker.target.mallory.encode()
    halves = (
        b"",
        b"GET /livez HT",
        b"GET /livez HTTP/1.1\r\nHost: 127",
        _HEAD % token + b"Content-Length: 100\r\n\r\n{",
    )
    writers = [await attacker.connect(halves[index % len(halves)]) for index in range(600)]
    await attacker.wait()
    for writer in writers:
        if writer is not None:
            writer.close()


@abuse
async def large_bodies(attacker: Attacker) -> None:
    """Bodies as large as may be, sent but for their last byte."""
    token = attacker.target.mallory.encode()
    size = 120 << 20

    async def pour() -> None:
        writer = await attacker.connect(_HEAD % token + b"Content-Length: %d\r\n\r\n" % size)
        if writer is None:
            return
        try:
            for _ in range(size // len(_CHUNK) - 1):
                writer.write(_CHUNK)
                await writer.drain()
            attacker.seen.statuses["held"] += 1
        except OSError:
            attacker.seen.statuses["cut off"] += 1
        await attacker.wait()
        writer.close()

    await asyncio.gather(*(pour() for _ in range(12)))


@abuse
async def readers_that_do_not_read(attacker: Attacker) -> None:
    """Exports and event streams, asked for and left where they are."""
    target = attacker.target
    end = f"HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {target.mallory}\r\n\r\n"
    paths = [f"GET /v1/versions/{target.version}/export {end}", f"GET /v1/jobs/{target.job}/events {end}"]
    paths[1] = paths[1].replace("\r\n\r\n", "\r\nAccept: text/event-stream\r\n\r\n")
    writers = [await attacker.connect(paths[index % 2].encode()) for index in range(150)]
    await attacker.wait()
    for writer in writers:
        if writer is not None:
            writer.close()
