"""The error of the lab."""

from __future__ import annotations


class LabError(Exception):
    """The lab cannot do what it was asked for; the message is one line for the user."""
