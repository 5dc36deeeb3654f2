"""The nodes with which a sandbox begins, while other sandboxes use the same machine."""

from pathlib import Path

from nvdimmfs.sandbox.device_node import NodeNumber
from nvdimmfs.sandbox.supervisor import Supervisor


class Created:
    """Takes the place of a supervisor."""

    def __init__(self):
        self.nodes = []

    def _create_node(self, kind, name, number):
        self.nodes.append((kind, name, number))


def test_a_device_that_goes_meanwhile_is_left_out(tmp_path, monkeypatch):
    for kind, number, name in (("block", "7:256", "pmem0"), ("block", "7:257", "pmem1"), ("char", "252:0", "ndctl0")):
        (tmp_path / "dev" / kind).mkdir(parents=True, exist_ok=True)
        (tmp_path / "dev" / kind / number).symlink_to(f"../../devices/{name}")
    listed = Path.iterdir

    def iterdir(path):
        entries = list(listed(path))
        if path.name == "block":
            (path / "7:256").unlink()
        return iter(entries)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    created = Created()
    Supervisor.create_nodes(created, tmp_path)
    assert created.nodes == [("char", "ndctl0", NodeNumber(252, 0)), ("block", "pmem1", NodeNumber(7, 257))]
