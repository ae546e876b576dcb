"""Tests of the project's own habits: layers, house rules, the Makefile, the container files."""
