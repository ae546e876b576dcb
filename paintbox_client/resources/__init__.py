"""What the methods of `Client` return; names and fields are those of the service's OpenAPI document."""
