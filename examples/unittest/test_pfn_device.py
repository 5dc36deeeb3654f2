"""A tool's tests with unittest: each test has a machine of its own, in the test's process.

Run it in this folder: python3 -m unittest
"""

import errno
import unittest

from nvdimmfs.testing import Engine

ND = "/sys/bus/nd"
UUID = "01234567-89ab-cdef-0123-456789abcdef"


def make_pfn_device(engine: Engine, namespace: str) -> str:
    """The code under test: put struct pages on a raw namespace.  It would usually be imported from the tool."""
    region = namespace.removeprefix("namespace").partition(".")[0]
    device = engine.read(f"{ND}/devices/region{region}/pfn_seed").strip()
    engine.write(f"{ND}/drivers/nd_pmem/unbind", namespace)
    for name, value in {"mode": "pmem", "uuid": UUID, "namespace": namespace}.items():
        engine.write(f"{ND}/devices/{device}/{name}", value)
    engine.write(f"{ND}/drivers/nd_pmem/bind", device)
    return device


class PfnDevice(unittest.TestCase):
    def setUp(self):
        self.engine = self.enterContext(Engine(memmap="512M!4G"))

    def test_its_size_is_that_of_the_namespace_without_the_struct_pages(self):
        device = make_pfn_device(self.engine, "namespace0.0")
        self.assertEqual(self.engine.read(f"{ND}/devices/{device}/size"), "526385152\n")

    def test_it_changes_the_layout_and_a_seed_but_nothing_else(self):
        before = self.engine.dump()
        make_pfn_device(self.engine, "namespace0.0")
        changes = self.engine.diff(before)
        self.assertIn("driver of device pfn0.0: none -> nd_pmem", changes)
        self.assertIn("device pfn0.1 appeared", changes)

    def test_udev_receives_the_uevents_of_the_disk(self):
        make_pfn_device(self.engine, "namespace0.0")
        events = [(event.action, event.name) for event in self.engine.events]
        self.assertLess(events.index(("remove", "pmem0")), events.index(("add", "pmem0")))

    def test_a_failing_registration_leaves_the_device_unbound(self):
        self.engine.write("/sys/kernel/debug/nvdimmfs/fail_registration", "ENOMEM")
        with self.assertRaises(OSError) as refusal:
            make_pfn_device(self.engine, "namespace0.0")
        self.assertEqual(refusal.exception.errno, errno.ENOMEM)
        self.assertFalse(self.engine.exists(f"{ND}/devices/pfn0.0/driver"))


if __name__ == "__main__":
    unittest.main()
