"""Feedback on answers, and its way into data sets."""
