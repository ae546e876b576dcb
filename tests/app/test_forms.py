"""Forms of images: what is in them comes out, however it is cut on its way, and what is no form is refused."""

import asyncio
from typing import Any

import pytest
from fastapi import HTTPException, Request
from hypothesis import given
from hypothesis import strategies as st

from app.inference.image_requests import _read_form

BOUNDARY = b"a-boundary"
FIELDS = st.lists(
    st.tuples(
        st.sampled_from(["top_k", "candidate_labels", "ü"]), st.text(max_size=40).filter(lambda text: "\r" not in text)
    )
)


def part(name: str, content: bytes, *headers: bytes) -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"'.encode()
    return b"--" + BOUNDARY + b"\r\n" + b"\r\n".join([disposition, *headers]) + b"\r\n\r\n" + content + b"\r\n"


def read(body: bytes, sizes: list[int] | None = None, boundary: bytes = BOUNDARY) -> tuple[list[bytes], list[Any]]:
    chunks, rest = [], body
    for size in sizes or []:
        chunks.append(rest[:size])
        rest = rest[size:]
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.request", "body": rest, "more_body": False})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    headers = [(b"content-type", b"multipart/form-data; boundary=" + boundary)]
    return asyncio.run(_read_form(Request({"type": "http", "headers": headers}, receive)))


@given(st.lists(st.binary(max_size=90), max_size=4), FIELDS, st.lists(st.integers(0, 60), max_size=9))
def test_what_is_in_a_form_comes_out_however_it_is_cut(
    images: list[bytes], fields: list[tuple[str, str]], sizes: list[int]
) -> None:
    parts = [part("images", image, b"Content-Type: image/png") for image in images]
    parts += [part(name, value.encode()) for name, value in fields]
    assert read(b"".join(parts) + b"--" + BOUNDARY + b"--\r\n", sizes) == (images, fields)


def test_a_field_is_read_in_the_charset_that_it_names() -> None:
    body = part("top_k", "ü".encode("latin-1"), b"Content-Type: text/plain; charset=latin-1")
    assert read(body + b"--" + BOUNDARY + b"--") == ([], [("top_k", "ü")])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form at all",
        part("images", b"x"),
        part("top_k", b"\xff") + b"--" + BOUNDARY + b"--",
        part("top_k", b"5", b"Content-Type: text/plain; charset=no-such") + b"--" + BOUNDARY + b"--",
        part("top_k", b"5" * ((1 << 20) + 1)) + b"--" + BOUNDARY + b"--",
        part("images", b"x", *[b"A: b"] * 99) + b"--" + BOUNDARY + b"--",
        part("a", b"") * 10_001 + b"--" + BOUNDARY + b"--",
    ],
)
def test_what_is_no_form_is_refused_with_the_reason(body: bytes) -> None:
    with pytest.raises(HTTPException) as refused:
        read(body)
    assert refused.value.status_code == 400
    assert refused.value.detail.startswith("The form cannot be read: ")


def test_a_form_without_a_boundary_is_refused() -> None:
    with pytest.raises(HTTPException):
        read(b"x", boundary=b"")
