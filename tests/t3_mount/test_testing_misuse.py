"""An `Engine` and a `Machine` refuse the same mistakes of their callers, with the same words."""

from __future__ import annotations

import copy
import errno
import pickle

import pytest

from nvdimmfs.testing import Engine, Machine

pytestmark = pytest.mark.usefixtures("fuse")


@pytest.fixture(params=[Engine, Machine], scope="module")
def machine(request):
    with request.param(memmap="64M!4G") as machine:
        yield machine


@pytest.mark.parametrize("kind", [Engine, Machine])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"media": "/tmp/a\0b"}, ValueError, r"media '/tmp/a\\x00b': a path has no NUL"),
        ({"media": ""}, ValueError, "media '': must be the path of a folder"),
        ({"ram": ""}, ValueError, "ram '': must be a size greater than 0, such as 4G"),
        ({"machine": ""}, ValueError, "'': unknown machine; the machines are e820, .*; or write a path"),
        ({"trace": "off"}, TypeError, "trace must be True or False, not 'off'"),
    ],
)
def test_an_argument(kind, arguments, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        kind(**arguments)


@pytest.mark.parametrize("kind", [Engine, Machine])
def test_a_memmap_without_persistent_memory_is_warned_of(kind):
    with pytest.warns(UserWarning, match=r"^memmap '512M@4G' makes no persistent memory; .* 512M!4G$") as warned:
        kind(memmap="512M@4G").close()
    assert warned[0].filename == __file__


def test_a_path_with_a_nul(machine):
    with pytest.raises(ValueError, match=r"^path '/sys/\\x00': a path has no NUL$"):
        machine.read("/sys/\0")


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_copy(machine, copied):
    """Its original could be closed, and the machine be another test's."""
    with pytest.raises(TypeError, match=r" cannot be copied or pickled; make one in the process that uses it$"):
        copied(machine)


@pytest.mark.parametrize("name", ["", " kmem", "kmem\n", "kmem\nunload nd_pmem", "ü"])
def test_a_name_of_no_module(machine, name):
    loaded = machine.modules.loaded
    for change in (machine.modules.load, machine.modules.unload):
        with pytest.raises(FileNotFoundError) as refusal:
            change(name)
        assert (refusal.value.errno, refusal.value.filename) == (errno.ENOENT, name)
        assert refusal.value.__notes__ == [f"no module can have the name {name!r}"]
    assert machine.modules.loaded == loaded


def test_its_name_in_messages(machine):
    assert repr(machine).startswith(f"<{type(machine).__name__}")
    assert "without" not in repr(machine)


@pytest.mark.parametrize("kind", [Engine, Machine])
def test_a_checkpoint_of_before_a_power_cycle(kind):
    with kind(memmap="64M!4G") as machine:
        checkpoint = machine.checkpoint()
        with machine.checkpoint():
            pass  # nothing refers to this one any more
        machine.power_cycle()
        with pytest.raises(ValueError, match=r"^the machine has booted again since the checkpoint$"):
            checkpoint.reset()
        with pytest.raises(ValueError, match=r"^there is no checkpoint yet$"):
            machine.reset()
        with machine.checkpoint():
            machine.write("/sys/bus/nd/drivers/nd_pmem/unbind", "namespace0.0")
        assert machine.exists("/dev/pmem0")
