"""What people and tools read about the API: the OpenAPI document, the page `/docs`, the page `/`."""
