"""The worker: a Celery task leases a job and supervises a fresh trainer process that does the work."""
