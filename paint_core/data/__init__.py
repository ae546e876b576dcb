"""Labelled images: read from folders or memory, decoded once, split and merged."""

from paint_core.data.datasets import LabelledImages, Task, decode_all, load_image_folder, split_off_validation

__all__ = ["LabelledImages", "Task", "decode_all", "load_image_folder", "split_off_validation"]
