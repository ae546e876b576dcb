"""Stored label sets as a resource, and the labels that requests name by id."""
