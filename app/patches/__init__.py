"""Patches over HTTP."""
