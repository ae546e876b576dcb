"""What HTTP needs whatever is asked: errors and their problem documents, limits, connections, lists."""
