"""Signatures as Standard Webhooks 1.0 has them (standardwebhooks.com): HMAC-SHA256 over id, time and body."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

SECRET_PREFIX = "whsec_"
_LEAST_BYTES, _MOST_BYTES = 24, 64


def parse_secret(text: str) -> bytes:
    """Return the key that a secret holds.

    Args:
        text: `whsec_` and 24 to 64 bytes in base64.

    Returns:
        The bytes.

    Raises:
        ValueError: It is not of that form.
    """
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(SECRET_PREFIX) or not _LEAST_BYTES <= len(key) <= _MOST_BYTES:
        raise ValueError("must be `whsec_` and 24 to 64 bytes in base64: echo whsec_$(openssl rand -base64 32)")
    return key


def sign(key: bytes, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that let a receiver know who sent a message, and when.

    Args:
        key: Shared with the receiver.
        message_id: The same at every try, so that a receiver knows a repetition.
        timestamp: Seconds since 1970, of this try.
        body: The message.

    Returns:
        `webhook-id`, `webhook-timestamp` and `webhook-signature`.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode("ascii")
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{signature}"}
