"""What a fine-tuning step minimises, as one module, so that it can be wrapped and run on several processes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paint_core.anchoring import AnchorLoss
from paint_core.batches import Batch
from paint_core.evaluation import Precision, autocast, eval_mode
from paint_core.heads import logits


class Objective(nn.Module):
    """Cross-entropy under a frozen head, and the anchor loss; only the tower has parameters."""

    def __init__(
        self,
        visual: nn.Module,
        head: Tensor,
        anchor: AnchorLoss,
        *,
        scale: float,
        bias: float,
        label_smoothing: float,
        precision: Precision,
        anchors_apart: bool,
    ) -> None:
        """Takes the tower in as it is.

        Args:
            visual: the image tower.
            head: [C, D] on the tower's device; not trained.
            anchor: the form of the anchor loss.
            scale: the model's `logit_scale`.
            bias: the model's `logit_bias`.
            label_smoothing: in [0, 1).
            precision: of the tower's forward pass.
            anchors_apart: whether anchors have a forward pass of their own, in eval mode: a tower that draws random
                numbers must not draw for images whose targets were computed without.
        """
        super().__init__()
        self.visual = visual
        self._head = head
        self._anchor = anchor
        self._scale, self._bias = scale, bias
        self._label_smoothing = label_smoothing
        self._precision = precision
        self._anchors_apart = anchors_apart

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The cross-entropy in nats and the anchor loss (0 without anchors), each the batch's mean."""
        with autocast(batch.pixels.device, self._precision):
            features, held = self._features(batch)
        scores = logits(features, self._head, self._scale, self._bias)
        loss = F.cross_entropy(scores, batch.labels, label_smoothing=self._label_smoothing)
        if held is None or batch.anchor_targets is None:
            return loss, torch.zeros_like(loss)
        return loss, self._anchor.loss(held, batch.anchor_targets)

    def _features(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """One forward pass for both kinds of image where they cannot influence each other."""
        if batch.anchor_pixels is None:
            return self.visual(batch.pixels), None
        if self._anchors_apart:
            with eval_mode(self.visual):
                held = self.visual(batch.anchor_pixels)
            return self.visual(batch.pixels), held
        together = self.visual(torch.cat([batch.pixels, batch.anchor_pixels]))
        return together[: len(batch.pixels)], together[len(batch.pixels) :]


@torch.no_grad()
def is_stochastic(visual: nn.Module, pixels: Tensor) -> bool:
    """Whether the tower draws random numbers in its present mode (dropout, stochastic depth, patch dropout).

    Args:
        visual: the tower; the caller's generators are left as they were.
        pixels: float32 [B, 3, S, S] on the tower's device, any batch.

    Returns:
        True if a forward pass moves the generator on.
    """
    cuda = pixels.device.type == "cuda"
    with torch.random.fork_rng(devices=[pixels.device] if cuda else []):
        before = torch.cuda.get_rng_state(pixels.device) if cuda else torch.get_rng_state()
        visual(pixels)
        after = torch.cuda.get_rng_state(pixels.device) if cuda else torch.get_rng_state()
    return not torch.equal(before, after)
