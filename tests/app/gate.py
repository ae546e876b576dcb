"""An image tower that waits for a signal, so that a queue builds up behind it."""

from __future__ import annotations

import threading

import torch


class Gate(torch.nn.Module):
    """A tower that forwards once `opened` is set, and keeps what it was asked."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.entered, self.opened = threading.Event(), threading.Event()
        self.batch_sizes: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batch_sizes.append(len(images))
        self.entered.set()
        assert self.opened.wait(30)
        features: torch.Tensor = self.inner(images)
        return features
