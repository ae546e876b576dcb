"""What a fine-tuning step minimises, as one module, so that it can be wrapped and run on several processes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paint_core.config.finetune import FinetuneConfig
from paint_core.config.precision import Precision
from paint_core.errors import ConfigError
from paint_core.evaluation.scoring import autocast, eval_mode
from paint_core.models import BaseModel
from paint_core.models.heads import logits
from paint_core.training.anchoring import AnchorLoss
from paint_core.training.batches import Batch


class Objective(nn.Module):
    """Cross-entropy under a frozen head, and the anchor loss; only the tower has parameters."""

    def __init__(
        self,
        base: BaseModel,
        visual: nn.Module,
        head: Tensor,
        anchor: AnchorLoss,
        config: FinetuneConfig,
        precision: Precision,
    ) -> None:
        """Uses the tower itself, not a copy."""
        super().__init__()
        self.visual = visual
        # Cloned, because a tensor made under inference_mode cannot take part in a backward pass.
        self._head = head.detach().clone().to(next(visual.parameters()).device)
        self._anchor = anchor
        self._scale, self._bias = base.logit_scale, base.logit_bias
        self._config = config
        self._precision = precision
        self._draws: bool | None = None  # known when the first anchors come

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The cross-entropy in nats and the anchor loss (0 without anchors), each the batch's mean."""
        with autocast(batch.pixels.device, self._precision):
            features, held = self._features(batch)
        scores = logits(features, self._head, self._scale, self._bias)
        loss = self._cross_entropy(scores, batch)
        if held is None or batch.anchor_targets is None:
            return loss, torch.zeros_like(loss)
        return loss, self._anchor.loss(held, batch.anchor_targets)

    def _cross_entropy(self, scores: Tensor, batch: Batch) -> Tensor:
        if batch.weights is None:
            return F.cross_entropy(scores, batch.labels, label_smoothing=self._config.label_smoothing)
        each = F.cross_entropy(scores, batch.labels, label_smoothing=self._config.label_smoothing, reduction="none")
        return (batch.weights * each).mean()

    def _features(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """One forward pass for both kinds of image, unless the tower draws random numbers in training.

        It must not draw for anchors, whose targets were computed without.
        """
        if batch.anchor_pixels is None:
            return self.visual(batch.pixels), None
        if self._draws is None:
            self._draws = self._require_repeatable(batch.anchor_pixels)
        if self._draws:
            with eval_mode(self.visual):
                held = self.visual(batch.anchor_pixels)
            return self.visual(batch.pixels), held
        together = self.visual(torch.cat([batch.pixels, batch.anchor_pixels]))
        return together[: len(batch.pixels)], together[len(batch.pixels) :]

    def _require_repeatable(self, pixels: Tensor) -> bool:
        draws = is_stochastic(self.visual, pixels[:1])
        if draws and self._config.gradient_checkpointing:
            # The anchors' pass would be repeated in training mode.
            raise ConfigError(
                "gradient_checkpointing and anchors cannot be combined in an image tower with dropout: use "
                "accumulation_steps instead"
            )
        return draws


@torch.no_grad()
def is_stochastic(visual: nn.Module, pixels: Tensor) -> bool:
    """Whether the tower draws random numbers in its present mode (dropout, stochastic depth, patch dropout)."""
    cuda = pixels.device.type == "cuda"
    with torch.random.fork_rng(devices=[pixels.device] if cuda else []):
        before = torch.cuda.get_rng_state(pixels.device) if cuda else torch.get_rng_state()
        visual(pixels)
        after = torch.cuda.get_rng_state(pixels.device) if cuda else torch.get_rng_state()
    return not torch.equal(before, after)
