"""The OpenAPI document, and the pages `/docs` and `/`."""
