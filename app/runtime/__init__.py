"""The process itself: its log, its threads, its cores and who gets them, its end."""
