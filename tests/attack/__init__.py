"""Abusive clients against a real service, with an honest client beside them that must notice little of it."""
