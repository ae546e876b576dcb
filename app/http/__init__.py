"""HTTP concerns of all routes: errors and problem documents, limits, connections, lists."""
