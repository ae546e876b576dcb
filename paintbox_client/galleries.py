"""Thumbnails as files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from paintbox_client.client import Client
from paintbox_client.display import print_note
from paintbox_client.errors import InputError
from paintbox_client.resources.datasets import DatasetImage


def save_thumbnails(client: Client, dataset_id: str, images: Iterable[DatasetImage], folder: Path, size: int) -> None:
    """Write a thumbnail of each image to a folder, named by split and row.

    Raises:
        InputError: The folder cannot be written.
    """
    num_written = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for image in images:
            data = client.thumbnail(dataset_id, image.split, image.row, size)
            (folder / f"{image.split}-{image.row:06}.webp").write_bytes(data)
            num_written += 1
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error}.", "Choose another folder.") from error
    print_note(f"Written: {num_written:,} thumbnails to {folder}")
