"""What these tests take from the acceptance tests."""

from tests.acceptance.conftest import browser, tell, whole_cluster

__all__ = ["browser", "tell", "whole_cluster"]
