"""Where a daemon logs to.

In the foreground, everything goes to stderr; with --log, to that file.  Otherwise a daemon, which has no terminal,
sends warnings and errors to the system log (syslog(3)), so that a bug does not go unnoticed.  That log is the journal
where there is one, and the console where no logger runs.
"""

from __future__ import annotations

import logging
import syslog

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def log_to_stderr(level: int = logging.INFO) -> None:
    """Log everything from a level on to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_FORMAT))
    _use(handler, level)


def log_to_system() -> None:
    """Log warnings and errors to the system log."""
    syslog.openlog("nvdimmfs", syslog.LOG_PID | syslog.LOG_CONS, syslog.LOG_DAEMON)
    _use(_SystemLog(), logging.WARNING)


def _use(handler: logging.Handler, level: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


class _SystemLog(logging.Handler):
    """Logs through syslog(3).  The standard library's handler uses a socket, and fails where no logger runs."""

    def emit(self, record: logging.LogRecord) -> None:
        priority = syslog.LOG_ERR if record.levelno >= logging.ERROR else syslog.LOG_WARNING
        for line in self.format(record).splitlines():
            syslog.syslog(priority, line)
