"""Storage limits: quotas and free disk space."""
