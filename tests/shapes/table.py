"""All shapes."""

from tests.shapes.exports import EXPORTS
from tests.shapes.folders import FOLDERS
from tests.shapes.public import PUBLIC
from tests.shapes.shards import SHARDS
from tests.shapes.tables import TABLES

SHAPES = (*PUBLIC, *FOLDERS, *TABLES, *EXPORTS, *SHARDS)
