"""What the tests of the upgrade take from the acceptance tests."""

from tests.acceptance.conftest import tell

__all__ = ["tell"]
