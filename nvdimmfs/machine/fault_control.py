"""Declaring and removing fault rules on a running machine."""

from __future__ import annotations

import errno

import attrs

from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.faults.faults import Fault
from nvdimmfs.faults.rule import BadSectors, Fail, Notified, Operation, PowerCut, Rule, RuleError
from nvdimmfs.machine.persistent_memory import PersistentMemory
from nvdimmfs.media.base import range_medium
from nvdimmfs.nd.poison import poison
from nvdimmfs.nd.region import RegionDevice


@attrs.define(eq=False)
class FaultControl:
    """Declares rules, also those for which other files of the debug folder stand."""

    _system: System
    _persistent_memory: PersistentMemory
    _registration: Fault | None = attrs.field(init=False, default=None)
    _altmap: Fault | None = attrs.field(init=False, default=None)
    _power_cut: Fault | None = attrs.field(init=False, default=None)

    @property
    def text(self) -> str:
        """All rules with their counts, a line each."""
        return "".join(f"add {fault}\n" for fault in self._system.faults)

    def carry_out(self, text: str) -> None:
        """Carry out orders, see `faults.parse`.

        EINVAL for a text with a mistake, which changes nothing.  An order that is refused, with the errors of
        `Faults.add`, `find`, `remove` and `clear`, ends the text; those before it are carried out.
        """
        from nvdimmfs.faults.parse import Add, Clear, Remove, parse_orders  # loaded when a rule is written

        try:
            orders = parse_orders(text)
        except RuleError as error:
            raise KernelError(errno.EINVAL, str(error)) from None
        for order in orders:
            match order:
                case Add(rule):
                    self.declare(rule)
                case Remove(which):
                    self._system.faults.remove(self._system.faults.find(which))
                case Clear():
                    self._system.faults.clear()

    def declare(self, rule: Rule) -> Fault:
        """Declare a rule; sectors become bad, and processes in poll(2) ask again, at once.

        Errors as `Faults.add`; OSError when the host fails.
        """
        if isinstance(rule.action, PowerCut):
            self._complete_media()
        fault = self._system.faults.add(rule)
        if isinstance(rule.action, BadSectors):
            self._poison(fault, rule.action)
        if isinstance(rule.action, Notified):
            self._system.tree.poll_again()
        return fault

    def _poison(self, fault: Fault, bad: BadSectors) -> None:
        """Make sectors bad; the kernel knows them at once, as after a machine check (nfit_handle_mce, Linux 6.1)."""
        faults = self._system.faults
        for region in self._regions():
            medium = range_medium(region.start, region.size)
            if faults.names(medium, fault.rule.path):
                faults.count(fault, medium)
                poison(region, (bad,))
                region.revalidate_poison()

    def _regions(self) -> list[RegionDevice]:
        bus = self._persistent_memory.nd_bus
        return [device for device in bus.members.values() if isinstance(device, RegionDevice)] if bus else []

    # What other files order

    @property
    def next_registration(self) -> int | None:
        """The errno with which the next registration of pages fails by `fail_registration`; None if it does not."""
        fault = self._registration
        if fault is None or fault not in self._system.faults or not isinstance(fault.rule.action, Fail):
            return None
        return fault.rule.action.errno

    @next_registration.setter
    def next_registration(self, number: int | None) -> None:
        self._remove(self._registration)
        self._registration = None
        if number is not None:
            self._registration = self._once(Operation.REGISTER, number)

    @property
    def fails_altmap(self) -> bool:
        """Whether the next allocation in an altmap fails by `fail_altmap`."""
        return self._altmap is not None and self._altmap in self._system.faults

    @fails_altmap.setter
    def fails_altmap(self, fails: bool) -> None:
        self._remove(self._altmap)
        self._altmap = self._once(Operation.ALTMAP, errno.ENOMEM) if fails else None

    @property
    def writes_left(self) -> int | None:
        """The number of writes that the media take until the power is cut, 0 when it is; None without an order."""
        cuts = [fault for fault in self._system.faults if isinstance(fault.rule.action, PowerCut)]
        return min((max(0, fault.rule.after - fault.seen) for fault in cuts), default=None)

    def order_power_cut(self, writes: int | None) -> None:
        """Cut the power after a number of writes to media; None revokes the last order.  EBUSY when it is cut."""
        if self.writes_left == 0:
            raise KernelError(errno.EBUSY, "the power is cut; mount the folder again")
        self._remove(self._power_cut)
        self._power_cut = None
        if writes is not None:
            self._complete_media()
            rule = Rule(operation=Operation.MEDIA_WRITE, path="*", action=PowerCut(), after=writes)
            self._power_cut = self._system.faults.add(rule, is_limited=False)

    def _complete_media(self) -> None:
        """Leave no record in the journal that would bring a write back after the power was cut.  OSError."""
        if journal := self._persistent_memory.tables.storage.journal:
            journal.start_again()

    def _once(self, operation: Operation, number: int) -> Fault:
        rule = Rule(operation=operation, path="*", action=Fail(number), times=1)
        return self._system.faults.add(rule, is_kept=False, is_limited=False)

    def _remove(self, fault: Fault | None) -> None:
        if fault is not None:
            self._system.faults.remove(fault)
