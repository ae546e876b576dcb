"""The session of a browser as a resource."""
