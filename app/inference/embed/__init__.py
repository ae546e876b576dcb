"""Embeddings of images and texts over HTTP."""
