"""The end of a trainer's output, stored with a failed attempt: bounded, without secrets."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from registry.plain_text import MAX_LOG_TAIL_BYTES, clean_tail

MAX_LINES = 100
MAX_BYTES = MAX_LOG_TAIL_BYTES
_HIDDEN = "***"
_SECRET_NAMES = re.compile(r"KEY|SECRET|TOKEN|PASSW|CREDENTIAL|WEBHOOK_URL", re.IGNORECASE)
_LEAST_SECRET = 6  # shorter values are in every log by chance
# Logs hold untrusted text: the pattern is unambiguous, so matching takes linear time.
_USER_INFO = re.compile(r"(?<!\w)(\w++://)[^/\s@:]*+:[^/\s]*@")


def read_tail(path: Path, start: int, secrets: Collection[str]) -> str:
    """Return the last lines of a log, from byte `start`, at which the attempt's part of it begins.

    At most `MAX_LINES` lines and `MAX_BYTES` bytes; secrets, and user names and passwords in URLs, are replaced.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        begin = file.seek(max(start, size - 4 * MAX_BYTES))
        text = file.read(4 * MAX_BYTES).decode("utf-8", errors="replace")
    if begin > start and "\n" in text:
        text = text.partition("\n")[2]  # half a line may be half a secret, which nothing would recognise
    for secret in sorted(secrets, key=len, reverse=True):  # one may hold another
        text = text.replace(secret, _HIDDEN)
    text = _USER_INFO.sub(rf"\1{_HIDDEN}@", text)
    lines = clean_tail(text, 4 * MAX_BYTES).split("\n")  # cleaned first: some controls end a line, too
    return clean_tail("\n".join(lines[-MAX_LINES:]).rstrip("\n"), MAX_BYTES)


def find_secrets(environment: Mapping[str, str], *urls: str) -> frozenset[str]:
    """Return the values that a log must not contain.

    Args:
        environment: Variables; those named key, secret, token, password, credential or webhook URL hold secrets.
        *urls: Their passwords are secrets, too.
    """
    values = {value for name, value in environment.items() if _SECRET_NAMES.search(name)}
    values |= {_password(url) for url in urls}
    return frozenset(value for value in values if len(value) >= _LEAST_SECRET)


def _password(url: str) -> str:
    try:
        return str(make_url(url).password or "")
    except (ArgumentError, ValueError):
        return ""
