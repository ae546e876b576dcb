"""Return types of the methods of `Client`; names and fields are those of the service's OpenAPI document."""
