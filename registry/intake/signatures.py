"""Which files are images, by their first bytes."""

from __future__ import annotations

_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_AVIF = (b"avif", b"avis")


def is_picture(head: bytes) -> bool:
    """Return whether a file is an image in a supported format.

    Args:
        head: At least its first 18 bytes.
    """
    if head.startswith(_STARTS):
        return True
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    if head[4:8] == b"ftyp":
        return head[8:12] in _AVIF
    if head[:2] == b"BM":
        return int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    return head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in b" \t\r\n#" and len(head) > 2
