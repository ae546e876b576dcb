"""Where the project's files are, for tests that read them."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "paint_core",
    "contract",
    "registry",
    "pipeline",
    "app",
    "worker",
    "paintbox_client",
    "paintbox_launcher",
    "paintbox_label_studio",
    "paintbox_demo",
    "paintbox_local",
)
