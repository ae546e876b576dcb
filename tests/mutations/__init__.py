"""Mutated images, archives and model folders: none may crash or hang a process, or touch what it does not own."""
