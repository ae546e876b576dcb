"""The module that is trained: the starter's CLIP, and a projection onto a teacher's features if there is a teacher."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recipes.starter.batches import Batch


class Student(nn.Module):
    """A CLIP and a linear projection of its image embeddings onto a teacher's features; only the CLIP is exported."""

    def __init__(self, clip: nn.Module, embed_dim: int, num_teacher_features: int) -> None:
        """Initialise the projection.

        Args:
            clip: From `build_model`.
            embed_dim: Of its embeddings.
            num_teacher_features: Size of a teacher's feature; 0 without a teacher, and then there is no projection.
        """
        super().__init__()
        self.clip = clip
        self.projection = nn.Linear(embed_dim, num_teacher_features, bias=False) if num_teacher_features else None
        if self.projection is not None:
            nn.init.orthogonal_(self.projection.weight)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return unit embeddings of images and texts, each [B, E], and the distillation loss, a scalar.

        The distillation loss is the mean of 1 - cosine between the projections and the teacher's features.
        """
        images, texts = self.clip.visual(batch.pixels).float(), encode_texts(self.clip.text, batch.tokens).float()
        distillation = images.new_zeros(())
        if self.projection is not None and len(batch.teacher_features):
            projected = self.projection(images[: len(batch.teacher_features)]).float()
            distillation = 1 - F.cosine_similarity(projected, batch.teacher_features, dim=-1).mean()
        return F.normalize(images, dim=-1), F.normalize(texts, dim=-1), distillation


def encode_texts(text: nn.Module, tokens: Tensor) -> Tensor:
    """Return the embeddings of open_clip's causal text tower, [N, E], without computing most of the padding.

    Attention is causal, so padding after the last token does not change the embedding. The texts are sorted by length
    and split into two halves, each truncated to its longest text.

    Args:
        text: open_clip's `TextTransformer`, whose pooling is the end of text, the largest token.
        tokens: int64 [N, L].
    """
    lengths = tokens.argmax(dim=-1) + 1
    order = lengths.argsort()
    halves = [_encode(text, tokens[rows, : int(lengths[rows].max())]) for rows in order.chunk(2)]
    return torch.cat(halves)[order.argsort()]


def _encode(text: nn.Module, tokens: Tensor) -> Tensor:
    length = tokens.shape[1]
    embedded = text.token_embedding(tokens) + text.positional_embedding[:length]
    seen = text.ln_final(text.transformer(embedded, attn_mask=text.attn_mask[:length, :length]))
    last = seen[torch.arange(len(tokens), device=tokens.device), tokens.argmax(dim=-1)]
    encoded: Tensor = last @ text.text_projection
    return encoded
