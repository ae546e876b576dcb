"""Fine-tuning only the end of a tower: early blocks keep theta_0's features, and their task vector is exactly zero."""

from collections.abc import Iterable

from paint_core.errors import ConfigError
from paint_core.weights.profiles import block_of

_FIRST, _LAST = "stem", "final"


def last_blocks(names: Iterable[str], last_k: int) -> frozenset[str]:
    """The parameters of the last blocks and of everything after them (final norm, projection, head).

    Raises:
        ConfigError: the tower has fewer blocks, or their order is not known.
    """
    label_of = block_of(names)
    if _LAST not in label_of.values():
        raise ConfigError("last_k needs a ViT or a ConvNeXt tower: use trainable 'all' or 'lora' for this one")
    blocks = [label for label in dict.fromkeys(label_of.values()) if label not in (_FIRST, _LAST)]
    if last_k > len(blocks):
        raise ConfigError(f"last_k is {last_k}, the image tower has {len(blocks)} blocks: choose at most {len(blocks)}")
    learning = {*blocks[-last_k:], _LAST}
    return frozenset(name for name, label in label_of.items() if label in learning)
