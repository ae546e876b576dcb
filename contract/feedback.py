"""Feedback on answers: where it comes from, and what has been decided about it."""

from enum import StrEnum


class FeedbackSource(StrEnum):
    """Origin of feedback: somebody sent it, or the service kept an image that it classified."""

    SENT = "sent"
    SAMPLED = "sampled"
    SHADOW = "shadow"


class FeedbackState(StrEnum):
    """Feedback is `open` until somebody accepts or dismisses it, and `used` once a data set contains its image."""

    OPEN = "open"
    ACCEPTED = "accepted"
    DISMISSED = "dismissed"
    USED = "used"
