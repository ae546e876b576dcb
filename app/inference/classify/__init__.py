"""Zero-shot classification over HTTP."""
