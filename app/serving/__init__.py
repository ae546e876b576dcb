"""The serving engine: queues, workers and head cache. It runs models that others build, and knows no HTTP or SQL."""
