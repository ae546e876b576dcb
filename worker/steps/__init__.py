"""The steps of a trainer: `ingest` prepares a data set, `patch` creates a version. Each is a list of stages."""
