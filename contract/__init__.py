"""Names and typed shapes of JSON that cross a border between packages or processes. Only pydantic: no torch, no SQL."""
