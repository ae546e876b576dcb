"""Versions and aliases over HTTP."""
