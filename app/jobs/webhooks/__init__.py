"""Messages to other services about jobs that have ended."""
