"""Stored pictures as people see them: thumbnails, encoded anew."""
