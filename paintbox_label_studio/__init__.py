"""A machine-learning backend for Label Studio that asks a running Paintbox service.

It speaks Label Studio's protocol (`/health`, `/setup`, `/predict`, `/webhook`), and knows Paintbox by its client only.
"""

from paintbox_label_studio.app import create_app
from paintbox_label_studio.settings import Settings

__all__ = ["Settings", "create_app"]
