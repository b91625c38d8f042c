"""One line on stderr for each event."""

import logging
import time

from django.core.exceptions import SuspiciousOperation

from sreproject.outage import first_line, is_outage


class ExpectedErrors(logging.Filter):
    """Replace the traceback of an expected error by its message."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten the record where it applies; keep every record."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and (is_outage(error) or isinstance(error, SuspiciousOperation)):
            # Django calls every exception that; the response is a 503 (see sreproject.views).
            message = record.getMessage().replace("Internal Server Error", "Service Unavailable")
            record.msg = f"{message}: {first_line(error)}"
            record.args = None
            record.exc_info = record.exc_text = None
        return True


class LineFormatter(logging.Formatter):
    """Time in UTC, level, logger, message; line breaks escaped, those of tracebacks too."""

    converter = staticmethod(time.gmtime)
    default_msec_format = "%s.%03dZ"
    default_time_format = "%Y-%m-%dT%H:%M:%S"

    def __init__(self) -> None:
        """Set the one format."""
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        return super().format(record).replace("\r", "\\r").replace("\n", "\\n")
