"""All shapes."""

from tests.shapes.public import PUBLIC
from tests.shapes.usual import USUAL

SHAPES = (*PUBLIC, *USUAL)
