"""What the console of a guest that ended prints about its end."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: The line of a kernel that panics (panic, kernel/panic.c).
_PANIC = re.compile(r"Kernel panic - not syncing: (?P<reason>.*)")

#: The line that names what went wrong before: an oops, a failed assertion, a task that waits or runs for too long.
_CAUSE = re.compile(r"(?:watchdog: )?BUG: .*|kernel BUG at .*|general protection fault.*|INFO: task .* blocked .*")


def has_panicked(lines: Sequence[str]) -> bool:
    """Whether the kernel of a guest panicked.

    Args:
        lines: what its console printed.
    """
    return any(map(_PANIC.search, lines))


def ending(lines: Sequence[str]) -> str:
    """Why a guest ended, in one line.

    Args:
        lines: what its console printed.
    """
    panics = [(number, panic["reason"]) for number, line in enumerate(lines) if (panic := _PANIC.search(line))]
    if not panics:
        return f"the guest ended; its console ends in: {lines[-1] if lines else '(nothing)'}"
    (first, _), (last, reason) = ([(-1, ""), *panics])[-2:]
    causes = [cause[0] for line in lines[first + 1 : last] if (cause := _CAUSE.search(line))]
    return f"the guest's kernel panicked: {reason}{f', after: {causes[-1]}' if causes else ''}"
