"""Room for what is stored: quotas, free disk space, and faults of the disk."""
