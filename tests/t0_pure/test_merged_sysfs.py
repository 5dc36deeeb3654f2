from pathlib import Path

from nvdimmfs.sandbox.merged_sysfs import hidden_host_paths, is_merged, processors_of_nodes


def host(root: Path, masks: tuple[str, ...]) -> Path:
    """A host's /sys with a processor on each node."""
    (root / "devices/system/cpu").mkdir(parents=True)
    (root / "devices/system/cpu/online").write_text(f"0-{len(masks) - 1}\n")
    for number, mask in enumerate(masks):
        node = root / f"devices/system/node/node{number}"
        node.mkdir(parents=True)
        (node / "cpumap").write_text(f"{mask}\n")
        (node / f"cpu{number}").symlink_to(f"../../cpu/cpu{number}")
    return root


def test_the_first_node_has_the_processors_of_all_nodes_of_the_host(tmp_path):
    added = processors_of_nodes(host(tmp_path, ("00000000,00000001", "00000010,00000002")))
    content = {path.rpartition("/")[2]: addition.content for path, addition in added.items()}
    assert content == {
        "cpumap": "00000010,00000003\n",
        "cpulist": "0-1\n",
        "cpu0": "../../cpu/cpu0",
        "cpu1": "../../cpu/cpu1",
    }
    assert {path.rpartition("/")[0] for path in added} == {"devices/system/node/node0"}
    assert [addition.is_link for addition in added.values()] == [False, False, True, True]


def test_the_hosts_own_nodes_are_hidden(tmp_path):
    hidden = hidden_host_paths(host(tmp_path, ("1", "2")))
    assert {f"devices/system/node/{name}" for name in ("node0", "node1", "node0/cpu0", "node0/cpumap")} == hidden
    assert is_merged("devices/system/node/node0")
    assert not is_merged("devices/system/node/node1")


def test_a_host_without_nodes_adds_nothing(tmp_path):
    assert processors_of_nodes(tmp_path) == {}
