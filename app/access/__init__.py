"""Access control: keys, scopes, owners, rate limits."""
