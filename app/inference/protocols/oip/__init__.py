"""The Open Inference Protocol v2 (`/v2`), with Triton's extensions for binary tensors and classification."""
