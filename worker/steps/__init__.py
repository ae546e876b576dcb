"""What a trainer does: `ingest` makes a data set ready, `patch` makes a version. Each is a list of stages."""
