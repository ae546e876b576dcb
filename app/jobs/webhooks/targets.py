"""Where webhooks may be sent: to origins that the operator named, and nowhere else.

A URL is read by the parser that the sender uses, so that both mean the same host by it.
"""

from __future__ import annotations

from collections.abc import Collection

import httpx2

from registry.errors import RequestRefusedError

_DEFAULT_PORTS = {"https": 443, "http": 80}


def parse_origin(text: str) -> tuple[str, str, int]:
    """Return scheme, host and port of an entry of the allow-list.

    Args:
        text: `hooks.example.com` or `hooks.example.com:8443` for https; with `http://` before it, plain http.

    Returns:
        The origin.

    Raises:
        ValueError: It is not of that form.
    """
    url = _parse(text if "://" in text else f"https://{text}")
    if url is None or url.raw_path not in (b"", b"/") or text.endswith(("/", "?", "#")):
        raise ValueError(
            f"{text!r} is not a host: use the form hooks.example.com, hooks.example.com:8443 or http://10.0.0.5:8080"
        )
    return _origin(url)


def check_target(url: str, allowed: Collection[str]) -> None:
    """Refuse a webhook that may not be sent.

    Args:
        url: Where it would go.
        allowed: The allow-list, as `parse_origin` reads its entries.

    Raises:
        RequestRefusedError: No webhooks are sent at all, or not to there.
    """
    if not allowed:
        raise RequestRefusedError(
            "webhook_refused",
            "Webhooks are disabled.",
            "Omit webhook_url, or ask the operator to add its host to PAINTBOX_WEBHOOK_HOSTS.",
        )
    parsed = _parse(url)
    if parsed is None:
        raise RequestRefusedError(
            "webhook_refused",
            "webhook_url is not a valid URL.",
            "Use the form https://host/path, without user information.",
        )
    if _origin(parsed) not in {parse_origin(entry) for entry in allowed}:
        scheme, host, port = _origin(parsed)
        raise RequestRefusedError(
            "webhook_refused",
            f"Webhooks to {scheme}://{host}:{port} are not allowed.",
            "Use an allowed host, or ask the operator to add it to PAINTBOX_WEBHOOK_HOSTS.",
        )


def _parse(text: str) -> httpx2.URL | None:
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError):
        return None
    names_a_host = bool(url.raw_host) and b"%" not in url.raw_host  # which a space becomes
    is_plain = not url.userinfo and not url.fragment
    return url if url.scheme in _DEFAULT_PORTS and names_a_host and is_plain else None


def _origin(url: httpx2.URL) -> tuple[str, str, int]:
    return url.scheme, url.raw_host.decode("ascii"), url.port or _DEFAULT_PORTS[url.scheme]
