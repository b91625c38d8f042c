"""One event, one line."""

import logging
import sys

from django.core.exceptions import DisallowedHost
from django.db import OperationalError

from sreproject.logs import ExpectedErrors, LineFormatter


def line(error: Exception) -> str:
    """Return how an exception is logged."""
    try:
        raise error
    except type(error):
        record = logging.LogRecord("polls", logging.ERROR, __file__, 1, "failed: %s", ("/x",), sys.exc_info())
    ExpectedErrors().filter(record)
    return LineFormatter().format(record)


def test_an_outage_is_a_line_without_a_traceback() -> None:
    """The first line of the database's message is enough."""
    text = line(OperationalError("connection refused\nIs the server running?"))
    assert text.endswith("ERROR polls failed: /x: connection refused")
    assert "Traceback" not in line(DisallowedHost("elsewhere"))


def test_a_fault_of_ours_is_a_line_with_its_traceback() -> None:
    """In one line, whatever the message holds."""
    text = line(ValueError("first\nsecond\rthird"))
    assert "Traceback" in text
    assert "test_logs.py" in text
    assert len(text.splitlines()) == 1
