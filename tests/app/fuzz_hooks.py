"""What schemathesis is told, in its own process, about this API: how a part of an upload is written."""

import schemathesis

from app.datasets.uploads.endpoints import PART_MEDIA_TYPE

schemathesis.serializer.alias(PART_MEDIA_TYPE, "application/octet-stream")
