"""What these tests take from the acceptance tests."""

from tests.acceptance.conftest import browser, chromium, tell, whole_cluster

__all__ = ["browser", "chromium", "tell", "whole_cluster"]
