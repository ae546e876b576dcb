"""API keys as a resource."""
