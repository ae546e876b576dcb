"""The serving engine: its line and its threads, head cache, served models and their swap. Knows no HTTP or SQL."""
