"""Answers that can be compared: without what chance or the host gives, such as device numbers and random UUIDs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

from nvdimmfs.formats.block_requests import BlockRequest
from nvdimmfs.lab.asking import Answer, Call, Row
from nvdimmfs.lab.recording import Step
from nvdimmfs.machine_file.model import ACPI_PARENT

_DEVICE_NUMBER = re.compile(r"\d+:\d+\n")
_DEVICE_LINES = re.compile(r"^(?:MAJOR|MINOR|DISKSEQ)=.*\n", re.MULTILINE)

#: The same in uevents, and the name of a backing device.
_DEVICE_WORDS = ("MAJOR=", "MINOR=", "DISKSEQ=")
BACKING_DEVICE = re.compile(r"/bdi/\d+:\d+$")

#: What a machine may lack, as uevents name it: the modules of ext4, which the question `mount` loads in a guest, the
#: NVDIMM root device, which QEMU has also without an NFIT, and the loop devices of the host, which a sandbox has.
_OF_OTHERS = re.compile(rf"/module/(?:ext4|jbd2|mbcache|crc16|crc32c_generic)|/{ACPI_PARENT}|.*/block/loop\d+")

#: A generated UUID: those of the stories begin with 0000 or have -1111-2222-3333- inside.
_RANDOM_UUID = re.compile(
    r"\b(?!0000|[0-9a-f]{8}-1111-2222-3333)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
)

#: An address of the kernel.
_ADDRESS = re.compile(r"\b0x[0-9a-f]{16}\b")

#: The address of a buffer that the test platform allocated, where an address of memory stands on other machines.
_BUFFER_ADDRESS = re.compile(r"0xff[0-9a-f]{14}\n")

#: The struct page of an idle page, in hexadecimal digits: its _mapcount and _refcount are known, other members are
#: pointers of the kernel (include/linux/mm_types.h, Linux 6.1).
_STRUCT_PAGE_FIELDS = "ffffffff01000000"
_STRUCT_PAGE = re.compile(rf"(?:..){{48}}{_STRUCT_PAGE_FIELDS}(?:..){{8}}")

#: What is kept of each zone in /proc/zoneinfo.
_ZONE_FACTS = frozenset({"spanned", "present", "start_pfn:"})


@attrs.frozen
class Comparison:
    """One answer beside the one that is expected; every row of a dump counts as one.

    Attributes:
        question: what was asked, in words.
        subject: the last part of the path, the name of the node, or the program.
        expected: the expected answer; None for a row that should not be there.
        here: the answer; None for a row that is not there.
    """

    question: str
    subject: str
    expected: Answer | Row | None
    here: Answer | Row | None

    @property
    def agrees(self) -> bool:
        return self.expected == self.here

    @property
    def kind(self) -> str:
        """The kind of answer: the operation, or that it is a refusal."""
        operation = self.question.partition(" ")[0]
        return f"{operation} refused" if self.expected is not None and "errno" in self.expected else operation


def compared(step: Step, here: Answer) -> Iterator[Comparison]:
    """Compare each answer of a step that can be compared."""
    call, expected = step.call, step.answer
    if step.unstable or call["op"] in ("sleep", "reboot"):
        return
    if call["op"] == "dump" and "rows" in expected:
        yield from _compared_rows(expected["rows"], here.get("rows", []))
        return
    if _is_of_buffer(expected) or _has_struct_page(expected.get("hex", "")):
        return
    portable = portable_answer(call, expected)
    # Most answers agree as they are: what is not compared is left out of them once.
    other = portable if here == expected else portable_answer(call, here)
    yield Comparison(_question(call), _subject(call), portable, other)


def _compared_rows(expected: list[Row], here: list[Row]) -> Iterator[Comparison]:
    before, now = ({row["path"]: row for row in rows} for rows in (expected, here))
    for path in sorted(before.keys() | now.keys()):
        row: Row = before.get(path, {})
        if not row.get("unstable") and not _is_of_buffer(row):
            name = path.rpartition("/")[2]
            portable, other = portable_row(before.get(path)), now.get(path)
            yield Comparison(f"dump {path}", name, portable, portable if other == row else portable_row(other))


def _has_struct_page(digits: str) -> bool:
    return _STRUCT_PAGE_FIELDS in digits and _STRUCT_PAGE.search(digits) is not None


def _is_of_buffer(answer: Answer | Row) -> bool:
    return _BUFFER_ADDRESS.fullmatch(answer.get("data", "")) is not None


def _question(call: Call) -> str:
    if call["op"] == "run":
        return f"run {' '.join(call['argv'])}"
    words = [call["op"], call.get("path", call.get("dev", ""))]
    if "data" in call:
        words.append(repr(call["data"]))
    if "request" in call:
        words.append(f"{call['request']:#x}")
    words += [f"{name}={call[name]}" for name in ("offset", "length") if name in call]
    return " ".join(words)


def _subject(call: Call) -> str:
    if call["op"] == "run":
        return call["argv"][0]
    return call.get("path", call.get("dev", call["op"])).rpartition("/")[2]


def portable_row(row: Row | None) -> Row | None:
    """Return a row of a dump without what is not compared."""
    return {**row, "data": _portable(row["path"], row["data"])} if row and "data" in row else row


def portable_answer(call: Call, answer: Answer) -> Answer:
    """Return an answer without what is not compared, which includes stderr of a program and numbers of disks."""
    if call.get("request") == BlockRequest.BLKGETDISKSEQ and "result" in answer:
        return {"result": answer["result"]}
    if "events" in answer:
        return {
            "events": sorted(_portable_event(event) for event in answer["events"] if not _OF_OTHERS.fullmatch(event[1]))
        }
    if "stdout" in answer:
        return {"rc": answer["rc"], "stdout": _portable_output(answer["stdout"])}
    return {**answer, "data": _portable(call["path"], answer["data"])} if "data" in answer else answer


def _portable(path: str, data: str) -> str:
    """A file's content without what the host or chance gave: device numbers, random UUIDs, the host's own memory."""
    name = path.rpartition("/")[2]
    if name == "dev" and _DEVICE_NUMBER.fullmatch(data):
        return "<major:minor>"
    data = _RANDOM_UUID.sub("<uuid>", shorten(path, data))
    return _DEVICE_LINES.sub("", data) if name == "uevent" else data


def _portable_event(event: list[str]) -> list[str]:
    """A uevent without device numbers.  Those that one call causes may be sent by threads that race."""
    return [BACKING_DEVICE.sub("/bdi/<major:minor>", word) for word in event if not word.startswith(_DEVICE_WORDS)]


def _portable_output(text: str) -> str:
    """What a program printed, without random UUIDs.  The order of its lists follows that of directories."""
    return _RANDOM_UUID.sub("<uuid>", text)


def shorten(path: str, content: str) -> str:
    """What of a file's content is kept of it: all, but of /proc/iomem and /proc/zoneinfo what memory has to do with.

    Of iomem the System RAM and the persistent memory, with all below them but the kernel's own image; of zoneinfo each
    zone's size and place.  Of /proc/modules the addresses are left out, as from an ordinary user.
    """
    if path.endswith("proc/modules"):
        return _ADDRESS.sub("0x" + 16 * "0", content)
    match path.rpartition("/")[2]:
        case "iomem":
            return "".join(_memory(content.splitlines(keepends=True)))
        case "zoneinfo":
            return "".join(_zones(content.splitlines(keepends=True)))
    return content


def _memory(lines: list[str]) -> Iterator[str]:
    is_memory = False
    for line in lines:
        _, _, owner = line.partition(" : ")
        if not line.startswith(" "):
            is_memory = owner.startswith(("System RAM", "Persistent Memory"))
        if is_memory and not owner.startswith("Kernel "):
            yield line


def _zones(lines: list[str]) -> Iterator[str]:
    return (line for line in lines if line.startswith("Node ") or line.strip().partition(" ")[0] in _ZONE_FACTS)
