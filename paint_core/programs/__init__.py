"""Image towers as ONNX graphs without weights, which ONNX Runtime runs with those of any version (extra `onnx`)."""

from paint_core.programs.program import Forward, Program

__all__ = ["Forward", "Program"]
