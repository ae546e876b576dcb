"""The serving engine: its queue and its threads, head cache, served models and their swap. Knows no HTTP or SQL."""
