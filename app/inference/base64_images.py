"""Images as base64 text, in the spellings in which clients send them."""

from __future__ import annotations

import base64
import binascii
from typing import Any

_SAFE_TO_STANDARD, _WHITE_SPACE = bytes.maketrans(b"-_", b"+/"), b" \t\r\n\v\f"
_QUOTED = {"%2B": "+", "%2b": "+", "%2F": "/", "%2f": "/", "%3D": "=", "%3d": "="}
_ADVICE = "send the bytes of an image file as base64"


def decode_base64_image(value: Any) -> bytes:
    """Return the bytes of an image; `ValueError` if the value is not base64.

    White space, missing padding, the URL-safe alphabet and a `data:` URL are accepted too: `base64 FILE` and browsers
    write them, and none of them can mean anything else.
    """
    if not isinstance(value, str):
        raise ValueError("must be a base64 string")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return _decode_leniently(value)


def _decode_leniently(text: str) -> bytes:
    text = text.strip()
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().rstrip().endswith(";base64"):
            raise ValueError(
                "is a data: URL without base64: it must begin with a prefix such as data:image/png;base64,"
            )
    elif text[:8].lower().startswith(("http://", "https://")):
        raise ValueError(f"is a URL, and URLs are not fetched: {_ADVICE}")
    for quoted, character in _QUOTED.items() if "%" in text else ():
        text = text.replace(quoted, character)
    encoded = text.encode("utf-8", "replace").translate(_SAFE_TO_STANDARD, _WHITE_SPACE).rstrip(b"=")
    try:
        return base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(f"is not base64 ({error}): {_ADVICE}") from error
