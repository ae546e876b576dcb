"""Health and identity of the process over HTTP."""
