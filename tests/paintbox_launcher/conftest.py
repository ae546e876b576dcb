"""A real broker, for the tests that want one."""

from tests.app.conftest import broker_url

__all__ = ["broker_url"]
