"""A program's tests with unittest: it runs on a machine, where it finds /sys and /dev as on a real one."""

import errno
import unittest

from nvdimmfs.testing import Machine, UnavailableError

#: The program under test, which is usually another file: it prints each region with its size, as JSON.
PROGRAM = """
import json, pathlib
regions = pathlib.Path("/sys/bus/nd/devices").glob("region*")
print(json.dumps({region.name: int((region / "size").read_text()) for region in regions}))
"""


class RegionTool(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        try:
            cls.machine = cls.enterClassContext(Machine("qemu-nfit"))
        except UnavailableError as error:
            raise unittest.SkipTest(str(error)) from None

    def setUp(self):
        self.enterContext(self.machine.checkpoint())

    def regions(self):
        try:
            return self.machine.run(["python3", "-c", PROGRAM], check=True, timeout=60).json()
        except UnavailableError as error:
            self.skipTest(str(error))

    def test_it_finds_all_regions(self):
        self.assertEqual(sorted(self.regions()), ["region0", "region1"])

    def test_it_finds_a_dimm_that_is_plugged_in(self):
        self.machine.plug("dimm size=64M")
        self.assertEqual(self.regions()["region2"], 64 << 20)

    def test_a_second_bind_is_refused(self):
        with self.assertRaises(OSError) as refusal:
            self.machine.write("/sys/bus/nd/drivers/nd_pmem/bind", "namespace0.0")
        self.assertEqual(refusal.exception.errno, errno.EBUSY)
        self.assertEqual([each.op for each in self.machine.refusals.new()], ["write"])


if __name__ == "__main__":
    unittest.main()
