"""Data sets that are collected from rows of others, without an upload."""
