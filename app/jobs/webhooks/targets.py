"""The allow-list of webhook URLs.

A URL is parsed by the same parser that the sender uses, so that both see the same host.
"""

from __future__ import annotations

from collections.abc import Collection

from app.settings import origin_of, parse_origin, parse_url
from registry.errors import RequestRefusedError


def check_target(url: str, allowed: Collection[str]) -> None:
    """Reject a webhook URL that is not on the allow-list, whose entries `parse_origin` reads.

    Raises:
        RequestRefusedError: Webhooks are disabled, or not allowed to this host.
    """
    if not allowed:
        raise RequestRefusedError(
            "webhook_refused",
            "Webhooks are disabled.",
            "Omit webhook_url, or ask the operator to add its host to PAINTBOX_WEBHOOK_HOSTS.",
        )
    parsed = parse_url(url)
    if parsed is None:
        raise RequestRefusedError(
            "webhook_refused",
            "webhook_url is not a valid URL.",
            "Use the form https://host/path, without user information.",
        )
    if origin_of(parsed) not in {parse_origin(entry) for entry in allowed}:
        scheme, host, port = origin_of(parsed)
        raise RequestRefusedError(
            "webhook_refused",
            f"Webhooks to {scheme}://{host}:{port} are not allowed.",
            "Use an allowed host, or ask the operator to add it to PAINTBOX_WEBHOOK_HOSTS.",
        )
