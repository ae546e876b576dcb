"""Evaluations of versions on data sets."""
