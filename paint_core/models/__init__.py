"""Base models: finding, loading and exporting them, and the zero-shot heads that their text towers give.

- base.py: references, the loaded model, `load_base`
- checkpoints.py, model_config.py, tokenizers.py: what a reference points at, and what it may contain
- building.py, wrapping.py: a model from files, or from one that open_clip has built
- heads.py, prompts.py: from classnames to a head
- batch_norm.py: running statistics of a mixed tower
- export.py: a folder that open_clip loads
"""

from paint_core.models.base import BaseModel, ModelRef, base_fingerprint, load_base
from paint_core.models.checkpoints import Hub
from paint_core.models.export import write_model
from paint_core.models.heads import build_head, encode_texts

__all__ = [
    "BaseModel",
    "Hub",
    "ModelRef",
    "base_fingerprint",
    "build_head",
    "encode_texts",
    "load_base",
    "write_model",
]
