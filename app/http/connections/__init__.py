"""The connections of a server: what their peers may send, and how long they may keep the service waiting."""
