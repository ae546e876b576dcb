"""Tests of the backend for Label Studio."""
