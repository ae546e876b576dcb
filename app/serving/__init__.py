"""The serving engine: decode pool, batcher, head cache, served models and their swap. Knows nothing of HTTP or SQL."""
