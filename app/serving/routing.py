"""Which requests the canary answers: a share of them, always the same ones."""

from __future__ import annotations

import hashlib

_BITS = 64


def is_in_share(key: str, share: float) -> bool:
    """Return whether a request key is among a share of all keys.

    Args:
        key: What tells one asker from another.
        share: In [0, 1]; whoever is in a share is also in every larger one.

    Returns:
        The same for the same key, in every process and after every start.
    """
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=_BITS // 8, person=b"canary").digest()
    return int.from_bytes(digest) < share * (1 << _BITS)
