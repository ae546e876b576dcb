"""Towers that wait for a signal, so that a queue builds up behind them."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable

import torch

from paint_core.models import BaseModel


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


class TextGate:
    """A tokenizer that waits for a permit before each slice of texts, and keeps what it was asked."""

    def __init__(self, inner: Callable[[list[str]], torch.Tensor]) -> None:
        self.inner = inner
        self.entered, self.permits = threading.Semaphore(0), threading.Semaphore(0)
        self.slices: list[list[str]] = []

    def __call__(self, texts: list[str]) -> torch.Tensor:
        self.slices.append(texts)
        self.entered.release()
        assert self.permits.acquire(timeout=30)
        return self.inner(texts)

    def wait(self) -> None:
        """Wait until the next slice has been begun."""
        assert self.entered.acquire(timeout=30)

    def open(self) -> None:
        """Let everything pass from now on."""
        self.permits.release(1_000_000)

    def before(self, base: BaseModel) -> BaseModel:
        """The base, whose text tower is behind the gate."""
        return dataclasses.replace(base, tokenizer=self)
