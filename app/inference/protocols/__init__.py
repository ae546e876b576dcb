"""Interfaces of others over the same engine: the Open Inference Protocol, and Hugging Face's zero-shot task."""
