"""Who may do what: keys, scopes, owners, rate limits."""
