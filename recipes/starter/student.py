"""What is trained: the starter, and beside it, where there is a teacher, a layer that says what the teacher sees."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recipes.starter.batches import Batch


class Student(nn.Module):
    """A CLIP, and a linear layer from its image embeddings to a teacher's features; only the CLIP is exported."""

    def __init__(self, clip: nn.Module, embed_dim: int, num_lessons: int) -> None:
        """Put a fresh layer beside a model.

        Args:
            clip: From `build_model`.
            embed_dim: Of its embeddings.
            num_lessons: Of the teacher's features; 0: there is no teacher, nor a layer.
        """
        super().__init__()
        self.clip = clip
        self.lessons = nn.Linear(embed_dim, num_lessons, bias=False) if num_lessons else None
        if self.lessons is not None:
            nn.init.orthogonal_(self.lessons.weight)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return images and texts, each [B, E] of length 1, and the loss against the teacher, a scalar.

        The loss is the mean of 1 - cosine, as CLIP's own ignores the length of an embedding.
        """
        images, texts = self.clip.visual(batch.pixels).float(), encode_texts(self.clip.text, batch.tokens).float()
        far = images.new_zeros(())
        if self.lessons is not None and len(batch.lessons):
            said = self.lessons(images[: len(batch.lessons)]).float()
            far = 1 - F.cosine_similarity(said, batch.lessons, dim=-1).mean()
        return F.normalize(images, dim=-1), F.normalize(texts, dim=-1), far


def encode_texts(text: nn.Module, tokens: Tensor) -> Tensor:
    """Return what open_clip's causal text tower makes of texts, [N, E], without the time that padding takes.

    No token sees what follows it, so what follows the last one is cut off: each half of the texts, sorted by length, to
    its longest.

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
