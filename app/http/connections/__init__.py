"""Connections: limits on what peers may send and on how long they may block the service."""
