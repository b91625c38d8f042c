"""What the tests with Elasticsearch 8 take from the acceptance tests."""

from tests.acceptance.conftest import tell

__all__ = ["tell"]
