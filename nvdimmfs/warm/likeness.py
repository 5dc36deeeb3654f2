"""Whether two processes have the same rights and see the same files, by what /proc shows of them.

A command that a server starts has the server's credentials, namespaces and limits.  So a server acts only for a process
that has the same ones.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from attrs import frozen

#: Lines of /proc/PID/status that must be the same (proc(5)).
_LINES = (
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "Cpus_allowed",
    "Mems_allowed",
)

#: Namespaces (namespaces(7)); a kernel may lack some.
_NAMESPACES = (
    "cgroup",
    "ipc",
    "mnt",
    "net",
    "pid",
    "pid_for_children",
    "time",
    "time_for_children",
    "user",
    "uts",
)

#: Files of /proc/PID whose content must be the same; a kernel may lack the last ones.
_FILES = ("cgroup", "limits", "oom_score_adj", "personality", "attr/current", "loginuid")

#: Fields of /proc/PID/stat after the name that must be the same: the nice value, the priority and policy of the
#: scheduler (proc(5): fields 19, 40 and 41).
_STAT = (16, 37, 38)

#: A process with this set may be confined further in ways that no file shows, such as by landlock(7).
_NO_NEW_PRIVILEGES = "NoNewPrivs"


@frozen
class Likeness:
    """What a process is like.

    Attributes:
        traits: what has to be the same, by name.
        status: the lines of /proc/PID/status, by name.
    """

    traits: Mapping[str, str]
    status: Mapping[str, str]

    @classmethod
    def of(cls, process: int) -> Likeness:
        """What a process is like.

        OSError when it has ended, or is not this user's to look at (PTRACE_MODE_READ_FSCREDS, ptrace(2)).

        Args:
            process: a descriptor of its directory in /proc.
        """
        lines = _read(process, "status").split("\n")
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        traits = {name: status.get(name, "") for name in _LINES}
        for name in _NAMESPACES:
            traits[f"the namespace {name}"] = _link(process, f"ns/{name}")
        for name in _FILES:
            traits[name] = _read(process, name, missing="")
        fields = _read(process, "stat").rpartition(")")[2].split()
        traits["scheduling"] = " ".join(fields[field] for field in _STAT)
        root = os.stat("root", dir_fd=process)  # by descriptor
        traits["the root directory"] = f"{os.readlink('root', dir_fd=process)} {root.st_dev} {root.st_ino}"
        return cls(traits, status)

    def difference(self, other: Likeness) -> str:
        """The name of something in which two processes differ; empty when they are alike."""
        if self.status.get(_NO_NEW_PRIVILEGES) != "0":
            return _NO_NEW_PRIVILEGES
        return next((name for name, value in self.traits.items() if other.traits[name] != value), "")

    @property
    def umask(self) -> int:
        return int(self.status["Umask"], 8)

    @property
    def ignored_signals(self) -> set[int]:
        mask = int(self.status["SigIgn"], 16)
        return {number for number in range(1, 65) if mask >> number - 1 & 1}


def _read(process: int, name: str, missing: str | None = None) -> str:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
    except FileNotFoundError:
        if missing is None:
            raise
        return missing
    try:
        return os.read(descriptor, 1 << 16).decode(errors="surrogateescape")
    except OSError:
        if missing is None:
            raise
        return missing  # attr/current without a security module
    finally:
        os.close(descriptor)


def _link(process: int, name: str) -> str:
    try:
        return os.readlink(name, dir_fd=process)  # by descriptor
    except FileNotFoundError:
        return ""
