"""The failures of a DIMM's functions that user space orders through `fail_cmd` and `fail_cmd_code`: a fault rule."""

from __future__ import annotations

import errno
import fnmatch

from attrs import frozen

from nvdimmfs.faults.faults import Fault, Faults
from nvdimmfs.faults.rule import Fail, Operation, Result, Rule


@frozen
class Failure:
    """What replaces the result of a function (override_return_code, tools/testing/nvdimm/test/nfit.c, Linux 6.1).

    Attributes:
        result: a negative errno, or the bytes that were left alone.
        reason: why, for the log.
    """

    result: int
    reason: str


class CommandFailures:
    """The functions of a DIMM that fail.

    In `fail_cmd`, a command and the function of a CALL with the same number have the same bit.  So a rule for the
    device that orders the failures, test_dimmN, is about both.
    """

    def __init__(self, faults: Faults, name: str) -> None:
        """`name`: that of the device that orders the failures."""
        self._faults = faults
        self._name = name
        self._mask = 0
        self._code = 0
        self._fault: Fault | None = None

    @property
    def mask(self) -> int:
        """The functions that fail, a bit each."""
        return self._mask if self._fault is not None and self._fault in self._faults else 0

    @mask.setter
    def mask(self, mask: int) -> None:
        self._mask = mask
        self._declare()

    @property
    def code(self) -> int:
        """Their result; 0 stands for -EIO."""
        return self._code

    @code.setter
    def code(self, code: int) -> None:
        self._mask, self._code = self.mask, code
        self._declare()

    def end(self) -> None:
        """The device is removed."""
        self.mask = 0

    def decide(self, dimm: str, function: int) -> Failure | None:
        """The failure that applies to a function now; None without one.

        Args:
            dimm: the DIMM, whose own rules apply elsewhere.
            function: the number of the command, or of the function of a CALL.
        """
        if not self._faults.commands:
            return None
        candidates = tuple(fault for fault in self._faults.commands if isinstance(fault.rule.action, Fail | Result))
        fault = self._faults.decide(
            candidates, lambda pattern: self._is_named(dimm, pattern), self._name, commands=frozenset({str(function)})
        )
        if fault is None:
            return None
        match fault.rule.action:
            case Fail(number):
                return Failure(-number, fault.reason)
            case Result(result):
                return Failure(result, fault.reason)
        return None

    def _is_named(self, dimm: str, pattern: str) -> bool:
        return fnmatch.fnmatchcase(self._name, pattern) and not fnmatch.fnmatchcase(dimm, pattern)

    def _declare(self) -> None:
        if self._fault is not None:
            self._faults.remove(self._fault)
            self._fault = None
        if self._mask:
            numbers = tuple(str(bit) for bit in range(self._mask.bit_length()) if self._mask >> bit & 1)
            action = Result(self._code or -errno.EIO)
            rule = Rule(operation=Operation.COMMAND, path=self._name, commands=numbers, action=action)
            self._fault = self._faults.add(rule, is_limited=False)
