"""Data sets in the shapes in which they are distributed, rebuilt with tiny images: read right, or refused with a way.

`python -m tests.shapes` prints the table; `test_shapes.py` holds it.
"""
