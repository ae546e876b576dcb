"""`paintbox demo`: the whole path over HTTP, on real handwritten digits and the bundled model."""
