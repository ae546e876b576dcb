"""The zero-shot head: one unit row per class, from prompts through the text tower (CLIP, arXiv 2103.00020, 3.1.4)."""

import re
from collections import Counter
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from paint_core.errors import HeadError
from paint_core.models.base import BaseModel
from paint_core.runtime.arguments import require_type

_PLACEHOLDER = re.compile(r"\{c?\}")
_PROMPTS_A_CHUNK = 256
_UNIT_TOLERANCE = 0.01  # half precision rounds a row by less

Template = str | Callable[[str], str]
"""A text with `{}` where the classname goes, or a function of the classname, as open_clip's own sets have them."""


@torch.no_grad()
def build_head(base: BaseModel, classnames: Sequence[str], templates: Sequence[Template]) -> Tensor:
    """The head of these classes: the normalised mean over templates of the normalised prompt embeddings.

    The rows are NOT multiplied by logit_scale; `logits` does that.

    Args:
        base: whose text tower to use.
        classnames: C different names; braces in them have no meaning.
        templates: T texts, each with `{}` (or `{c}`) for the name, or functions of the name, such as
            `open_clip.OPENAI_IMAGENET_TEMPLATES`. A task whose classes have their own whole sentences uses `("{}",)`.

    Returns:
        float32 [C, D] on the base's device, rows of unit length, in the order of `classnames`.

    Raises:
        HeadError: no or duplicate classnames, no templates, a template without a placeholder.
    """
    require_type("base", base, BaseModel, "pass the model that load_base gives")
    return pool_prompts(encode_texts(base, make_prompts(classnames, templates)), len(templates))


def make_prompts(classnames: Sequence[str], templates: Sequence[Template]) -> list[str]:
    """The C * T prompts of a head: those of the first class, one a template, then those of the next."""
    _require_valid(classnames, templates)
    return [fill(template, name) for name in classnames for template in templates]


@torch.no_grad()
def pool_prompts(embeddings: Tensor, num_templates: int) -> Tensor:
    """The head of encoded prompts: the second half of `build_head`, to encode a few prompts at a time.

    Args:
        embeddings: [C * T, D], unit rows, in the order of `make_prompts`.
        num_templates: T.
    """
    per_class = embeddings.view(-1, num_templates, embeddings.shape[1])
    return F.normalize(per_class.mean(dim=1), dim=-1)


@torch.no_grad()
def encode_texts(base: BaseModel, texts: Sequence[str]) -> Tensor:
    """The embeddings of whole texts, float32 [N, D] with unit rows, on the base's device; no template is added.

    Args:
        texts: N >= 1 of them; longer ones are cut to the model's context.
    """
    chunks = [list(texts[start : start + _PROMPTS_A_CHUNK]) for start in range(0, len(texts), _PROMPTS_A_CHUNK)]
    encode_text = base.model.encode_text
    assert callable(encode_text)
    embeddings = torch.cat([encode_text(base.tokenizer(chunk).to(base.device)).float() for chunk in chunks])
    return F.normalize(embeddings, dim=-1)


def fill(template: Template, classname: str) -> str:
    """The prompt: the template with the classname in place of `{}` or `{c}`, or what the function makes of it."""
    if callable(template):
        prompt = template(classname)
        require_type("what a template returns", prompt, str, "use functions of the classname that return a text")
        return prompt
    return _PLACEHOLDER.sub(lambda _: classname, template)


def logits(features: Tensor, head: Tensor, scale: float, bias: float = 0.0) -> Tensor:
    """The class logits `scale * cosine + bias`.

    Args:
        features: [B, D], of any length; normalised here.
        head: [C, D], unit rows, not yet scaled.
        scale: the model's `logit_scale`.
        bias: the model's `logit_bias`.

    Returns:
        [B, C], in the head's dtype.
    """
    return scale * F.normalize(features.to(head.dtype), dim=-1) @ head.T + bias


def require_head(head: Tensor, width: int | None = None) -> None:
    """Refuses a tensor that is not a zero-shot head, or the head of another model.

    Args:
        head: to be [C, D] with rows of unit length.
        width: D, if it is known.

    Raises:
        HeadError: another shape, or rows that are not of unit length.
    """
    require_type("head", head, Tensor, "pass the tensor [C, D] that build_head gives")
    if head.ndim != 2 or not head.is_floating_point() or len(head) == 0:
        raise HeadError(f"the head is {head.dtype} {list(head.shape)}: pass the tensor [C, D] that build_head gives")
    if width is not None and head.shape[1] != width:
        raise HeadError(
            f"the head's rows have {head.shape[1]} numbers and the model's features {width}: build it with this base"
        )
    lengths = head.detach().float().norm(dim=1)
    if not bool(((lengths - 1).abs() <= _UNIT_TOLERANCE).all()):
        worst = float(lengths[int((lengths - 1).abs().nan_to_num(nan=torch.inf).argmax())])
        raise HeadError(f"a row of the head has length {worst:.3g}, not 1: use build_head, or normalise the rows")


def _require_valid(classnames: Sequence[str], templates: Sequence[Template]) -> None:
    if isinstance(classnames, str) or isinstance(templates, str):
        raise HeadError("classnames and templates must be lists of strings: put the string into a list")
    if not classnames:
        raise HeadError("there are no classnames: give at least one")
    for name in classnames:
        require_type("a classname", name, str, "use texts")
    duplicates = [name for name, count in Counter(classnames).items() if count > 1]
    if duplicates:
        raise HeadError(f"duplicate classnames {duplicates[:3]}: make every classname different")
    if not templates:
        raise HeadError("there are no templates: give at least one, for example 'a photo of a {}.'")
    for template in templates:
        if not callable(template):
            require_type("a template", template, str, "use texts with {} or functions of the classname")
        if isinstance(template, str) and not _PLACEHOLDER.search(template):
            raise HeadError(f"the template {template!r} has no {{}}: add one as the placeholder of the classname")
