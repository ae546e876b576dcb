"""Scopes of API keys."""

from enum import StrEnum


class Scope(StrEnum):
    """What a key allows. Only `admin` includes others: all of them."""

    READ = "read"
    CLASSIFY = "classify"
    WRITE = "write"
    ADMIN = "admin"
