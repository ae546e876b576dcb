"""The GPU edge: a Celery task leases a job and watches over a fresh trainer process that does the work."""
