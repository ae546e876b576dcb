"""Labels from which heads are built: checks, and a cache of stored labels."""
