"""Data sets over HTTP."""
