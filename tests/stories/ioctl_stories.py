"""Recordings of ioctls (tests/recordings/ioctl): questions to a kernel and its answers, asked of the engine.

`ask_ioctls.py` put the same questions to the real kernel.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from ask_ioctls import from_hex, to_hex
from machines import boot

from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.durations import SECOND
from nvdimmfs.kernfs import Attribute, BinaryFile, Bytes
from nvdimmfs.kernfs.path import resolve
from nvdimmfs.machine.caller_memory import ARGUMENT_ADDRESS, UserMemory
from nvdimmfs.machine.device_calls import device_ioctl, device_named
from nvdimmfs.machine.machine import Machine

Question = dict[str, Any]
Answer = dict[str, Any]


#: What can be asked, by the word that only such a question has.
KINDS = ("key", "forget", "ioctl", "write", "read", "pread", "pwrite", "sleep")


@attrs.define
class Keys:
    """Keys with secrets of their own, numbered as they are made.

    Attributes:
        serials: the numbers of those that there are, by name.
        secrets: those of all that were ever made, by number; only keys of type `encrypted` have one.
    """

    serials: dict[str, int] = attrs.Factory(dict)
    secrets: dict[int, bytes | None] = attrs.Factory(dict)

    def make(self, name: str, size: int | None) -> None:
        serial = self.serials[name] = 1 + len(self.secrets)
        self.secrets[serial] = None if size is None else bytes([serial]) * size

    def payload(self, serial: int) -> bytes | None:
        return self.secrets.get(serial)

    def find(self, description: str) -> bytes | None:
        return self.secrets.get(self.serials.get(description, 0))


@attrs.frozen
class Asker:
    """Asks a machine what was asked of the kernel."""

    machine: Machine
    keys: Keys = attrs.Factory(Keys)

    def __attrs_post_init__(self) -> None:
        self.machine.system.keyring = self.keys

    def ask(self, question: Question) -> Answer:
        kind = next(kind for kind in KINDS if kind in question)
        try:
            answer: Answer = getattr(self, f"_{kind}")(question)
        except KernelError as refusal:
            return {"errno": refusal.code}
        return answer

    def _key(self, question: Question) -> Answer:
        self.keys.make(question["key"], None if question.get("kind") == "user" else question.get("size", 32))
        return {}

    def _forget(self, question: Question) -> Answer:
        self.keys.serials.pop(question["forget"], None)
        return {}

    def _ioctl(self, question: Question) -> Answer:
        memory = UserMemory(bytearray(from_hex(question.get("memory", ""))), question.get("constant", False))
        before = bytes(memory.data)
        found = device_named(self.machine.system, question["ioctl"])
        if found is None:
            return {"errno": "ENOENT"}
        steps = device_ioctl(
            found[1],
            question["request"],
            question.get("value", ARGUMENT_ADDRESS),
            writable=question.get("open") != "r",
            privileged=question.get("by") != "nobody",
        )
        try:
            result: Answer = {"result": memory.run(steps)}
        except KernelError as refusal:
            result = {"errno": refusal.code} if refusal.errno in errno.errorcode else {"result": -refusal.errno}
        return result if memory.data == before else result | {"memory": to_hex(bytes(memory.data))}

    def _write(self, question: Question) -> Answer:
        path, data = self._resolve(question["write"]), self._resolve(question["data"])
        return {"wrote": self._attribute(path).store(data.encode("latin-1"))}

    def _read(self, question: Question) -> Answer:
        return {"data": self._attribute(self._resolve(question["read"])).show().decode("latin-1")}

    def _pread(self, question: Question) -> Answer:
        return {"hex": to_hex(self._disk(question["pread"]).read(question["offset"], question["length"]))}

    def _pwrite(self, question: Question) -> Answer:
        data = from_hex(question["hex"])
        self._disk(question["pwrite"]).write(question["offset"], data)
        return {"wrote": len(data)}

    def _sleep(self, question: Question) -> Answer:
        self.machine.system.clock.advance(round(question["sleep"] * SECOND))
        return {}

    def _disk(self, name: str) -> Bytes:
        """The bytes of a disk as the guest's program accessed them: past the page cache (O_DIRECT)."""
        node = self.machine.system.dev.find(name)
        assert isinstance(node, BinaryFile)
        return node.direct_data

    def _attribute(self, path: str) -> Attribute[object]:
        found = resolve(self.machine.system.sys, path)
        assert isinstance(found, Attribute)
        return found

    def _resolve(self, text: str) -> str:
        text = re.sub(r"\{key ([^}]+)\}", lambda match: f"{self.keys.serials[match[1]]:#010x}", text)
        text = re.sub(r"\{region of (\w+)\}", lambda match: self._region_of(match[1]), text)
        return re.sub(r"\{seed of (\w+)\}", lambda match: self._seed_of(match[1]), text)

    def _seed_of(self, dimm: str) -> str:
        seed = self._attribute(f"bus/nd/devices/{self._region_of(dimm)}/namespace_seed")
        return seed.show().decode().strip()

    def _region_of(self, dimm: str) -> str:
        devices = self.machine.system.directory("bus/nd/devices")
        for name in devices.children:
            if not name.startswith("region") or self._attribute(f"bus/nd/devices/{name}/mappings").show() == b"0\n":
                continue
            if self._attribute(f"bus/nd/devices/{name}/mapping0").show().startswith(f"{dimm},".encode()):
                return name
        raise LookupError(dimm)


def differences(story: Path) -> Iterator[str]:
    """Replay a story on a machine of its own; returns one line for each answer that differs."""
    header, *lines = (json.loads(line) for line in story.read_text(encoding="ascii").splitlines())
    machine = boot(header["machine"])
    asker = Asker(machine)
    for number, question in enumerate(lines, 2):
        expected = question.pop("answer")
        answer = asker.ask(question)
        if answer != expected:
            yield f"line {number}: {question}: {answer} instead of {expected}"
    machine.close()
