"""An answer is one write if its body is there with its head, and nothing is held back for longer than a moment."""

import asyncio
from typing import Any

from app.http.connections.one_write import OneWrite

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Written:
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        assert not self.is_closed
        self.writes.append(data)

    def close(self) -> None:
        self.is_closed = True

    def get_extra_info(self, name: str) -> str:
        return name


def run(*steps: Any) -> list[bytes]:
    """What is written by steps: data to write, None for a turn of the event loop, "close"."""
    written = Written()

    async def write() -> None:
        transport = OneWrite(written, asyncio.get_running_loop())  # type: ignore[arg-type]
        assert transport.get_extra_info("peername") == "peername"
        for step in steps:
            if step is None:
                await asyncio.sleep(0)
            elif step == "close":
                transport.close()
            else:
                transport.write(step)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(write())
    return written.writes


def test_head_and_body_go_out_together() -> None:
    assert run(HEAD, b"body") == [HEAD + b"body"]
    assert run(HEAD, b"", b"more", HEAD, b"next") == [HEAD, b"more", HEAD + b"next"]


def test_a_head_whose_body_takes_longer_goes_out_at_the_next_turn_of_the_loop() -> None:
    assert run(HEAD, None, b"body") == [HEAD, b"body"]
    assert run(HEAD) == [HEAD]


def test_a_head_goes_out_before_the_connection_is_closed() -> None:
    assert run(HEAD, "close") == [HEAD]


def test_two_heads_in_a_row_stay_in_order() -> None:
    goes_on = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert b"".join(run(goes_on, HEAD, b"body")) == goes_on + HEAD + b"body"
