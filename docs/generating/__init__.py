"""Pages of the documentation that are written from the code; `docs/generate.py` writes them."""
