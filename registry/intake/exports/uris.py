"""From a URI or a path of another computer to the paths in the upload that it may mean."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import parse_qs, unquote, urlsplit

from registry.intake.exports.rows import texts

_URI = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_UPLOADED = re.compile(r"(?i)^[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of an uploaded file."""


def paths_of(text: str) -> tuple[str, ...]:
    """Return what a URI may be called in an archive, best first; nothing is ever fetched.

    Query strings of signed URLs are dropped; `/data/local-files/?d=a/b.jpg` and `…/resolve/?fileuri=…` of Label Studio
    mean the path in them; escapes such as `%20` are also tried as the characters that they stand for; the eight digits
    that Label Studio puts before the name of an upload are also tried without.
    """
    plain = text.replace("\\", "/")
    if _URI.match(plain) or plain.startswith("/"):
        try:
            parts = urlsplit(plain)
        except ValueError:  # an invalid IPv6 host
            return texts(plain)
        plain = _inner(parts.query) or (plain.partition("?")[0].partition("#")[0] if parts.query else plain)
    found = texts(plain, unquote(plain, errors="replace"))
    short = (_without_digits(each) for each in found)
    return texts(*found, *short)


def _inner(query: str) -> str:
    """Return the path that a query of Label Studio holds; empty without one."""
    try:
        given = parse_qs(query, max_num_fields=50)
    except ValueError:
        return ""
    if "d" in given:
        return given["d"][0]
    try:
        return base64.b64decode(given["fileuri"][0], validate=True).decode() if "fileuri" in given else ""
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _without_digits(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return folder + slash + _UPLOADED.sub("", name)
