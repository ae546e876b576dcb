"""Dependencies of endpoints on the serving engine, which knows nothing of HTTP."""

from __future__ import annotations

from typing import Annotated

from app.http.dependencies import provided
from app.models.shadow import Shadow
from app.serving.engine import Engine

EngineDep = Annotated[Engine, provided(Engine)]
ShadowDep = Annotated[Shadow, provided(Shadow)]
