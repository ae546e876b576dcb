"""How an exported version is loaded and classifies, as the model card shows it for each format."""

from __future__ import annotations

from paint_core.exporting import ExportFormat

_OPEN_CLIP = """```python
import open_clip

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:FOLDER")
tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")
```

The folder can also be used as a base model: `PAINTBOX_BASES='["local-dir:/absolute/FOLDER"]'`."""

_TRANSFORMERS = """```python
from PIL import Image
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained("FOLDER")
processor = AutoProcessor.from_pretrained("FOLDER")
labels = ["cat", "dog"]
texts = [f"a photo of a {label}" for label in labels]
inputs = processor(text=texts, images=Image.open("picture.jpg"), padding="max_length", return_tensors="pt")
logits = model(**inputs).logits_per_image[0]
print(labels[int(logits.argmax())])
```

A tokenizer of transformers does not always clean texts as open_clip does: write them in lower case, without
punctuation."""

_TOWERS = """```python
import json
from pathlib import Path
import numpy as np
{imports}
from PIL import Image, ImageOps
from tokenizers import Tokenizer

facts, labels = json.loads(Path("FOLDER/preprocess.json").read_text()), ["cat", "dog"]
texts = [f"a photo of a {{label}}" for label in labels]
tokens = [each.ids for each in Tokenizer.from_file("FOLDER/tokenizer.json").encode_batch(texts)]
side, picture = facts["image"]["size"], Image.open("picture.jpg").convert("RGB")
image = np.asarray(ImageOps.fit(picture, (side, side), Image.Resampling.BICUBIC))[None]
head = {run_text}
features = {run_image}
logits = facts["logit_scale"] * features @ head.T + facts["logit_bias"]
print(labels[int(logits[0].argmax())])
```

Both graphs give rows of unit length for any number of images and texts. `preprocess.json` says how images are resized:
with `resize_mode` `squash`, `picture.resize((side, side))` takes the place of `ImageOps.fit`."""

_ONNX = _TOWERS.format(
    imports="import onnxruntime",
    run_text='onnxruntime.InferenceSession("FOLDER/text.onnx").run(None, {"tokens": np.array(tokens)})[0]',
    run_image='onnxruntime.InferenceSession("FOLDER/image.onnx").run(None, {"images": image})[0]',
)
_OPENVINO = _TOWERS.format(
    imports="import openvino",
    run_text='openvino.compile_model("FOLDER/text.xml", "CPU")(np.array(tokens))[0]',
    run_image='openvino.compile_model("FOLDER/image.xml", "CPU")(image)[0]',
)
_USAGE: dict[ExportFormat, str] = {
    "open_clip": _OPEN_CLIP,
    "transformers": _TRANSFORMERS,
    "onnx": _ONNX,
    "openvino": _OPENVINO,
}
_HEAD = """`head.npy`, float32 `[classes, width]`, is the head of the labels in `labels.json`, on which the version was
patched: `np.load("FOLDER/head.npy")` takes the place of `head` above, and no text has to be encoded."""


def describe_usage(chosen: ExportFormat, *, has_head: bool) -> str:
    """Return the Markdown of a format: code, and what to know."""
    return f"{_USAGE[chosen]}\n\n{_HEAD}" if has_head else _USAGE[chosen]
