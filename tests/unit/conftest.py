"""What the unit tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.fake_site import Site


@pytest.fixture
def site() -> Iterator[Site]:
    """Return a site that confirms all votes at once."""
    with Site(lambda _number: (0.0, 302)) as found:
        yield found
