"""Labelled images as annotation tools and cloud services export them: one module per format, one reader for all."""
