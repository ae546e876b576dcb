"""Models in formats that other packages open: each is opened by that package and compared before it is handed out.

- formats.py: which of them work for a model, and writing one
- transformers_folder.py, names.py: a folder of Hugging Face transformers, for what its CLIPModel or SiglipModel has
- onnx_folder.py: both towers for ONNX Runtime
- openvino_folder.py: both towers for OpenVINO
- bpe.py: CLIP's tokenizer as the `tokenizers` library reads it
- proof.py: comparing the features of the opened model with those of the one that was written
"""

from paint_core.exporting.formats import (
    FORMATS,
    HEAD_NAME,
    ExportFormat,
    Label,
    require_exportable,
    usable_formats,
    write_export,
)

__all__ = ["FORMATS", "HEAD_NAME", "ExportFormat", "Label", "require_exportable", "usable_formats", "write_export"]
