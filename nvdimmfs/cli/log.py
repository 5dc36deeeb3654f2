"""Where a daemon's log goes.

In the foreground: to stderr.  With --log: to that file, everything.  Otherwise a detached daemon has nobody to talk to,
but a bug must not vanish silently: warnings and errors go to the system's log (syslog(3), which is the journal where
there is one, and the console where there is no logger at all).
"""

from __future__ import annotations

import logging
import syslog

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def log_to_stderr(level: int = logging.INFO) -> None:
    """Everything from a level on, line by line."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_FORMAT))
    _use(handler, level)


def log_to_system() -> None:
    """Warnings and errors, to the system's log."""
    syslog.openlog("nvdimmfs", syslog.LOG_PID | syslog.LOG_CONS, syslog.LOG_DAEMON)
    _use(_SystemLog(), logging.WARNING)


def _use(handler: logging.Handler, level: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


class _SystemLog(logging.Handler):
    """syslog(3), which the standard library's own handler does without: that one fails where there is no logger."""

    def emit(self, record: logging.LogRecord) -> None:
        priority = syslog.LOG_ERR if record.levelno >= logging.ERROR else syslog.LOG_WARNING
        for line in self.format(record).splitlines():
            syslog.syslog(priority, line)
