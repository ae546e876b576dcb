"""The process itself: its log, its threads, its end."""
