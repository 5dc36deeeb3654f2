"""Media: memory, files, and windows onto them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvdimmfs.faults.faults import Faults
from nvdimmfs.faults.parse import rule_of
from nvdimmfs.media.base import Media, MediaError, MediaWindow
from nvdimmfs.media.file import FileMedia
from nvdimmfs.media.memory import CHUNK_SIZE, SEGMENT_SIZE, MemoryMedia

SIZE = 5 * CHUNK_SIZE + 100
PETABYTE = 1 << 50

Maker = Callable[[], Media]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(params=["memory", "file", "window"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Maker]:
    """Makes empty media of SIZE bytes, of each kind."""
    made: list[Media] = []

    def maker() -> Media:
        if request.param == "memory":
            made.append(MemoryMedia(SIZE))
        elif request.param == "file":
            made.append(FileMedia(tmp_path / f"media{len(made)}", SIZE))
        else:
            start = SEGMENT_SIZE - SIZE // 2  # in two mappings of memory
            outside = MemoryMedia(start + SIZE + 1000)
            outside.write(start - 1000, b"\xff" * 1000)
            outside.write(start + SIZE, b"\xff" * 1000)
            made.append(MediaWindow(outside, start, SIZE))
        return made[-1]

    yield maker
    for media in made:
        media.close()


@pytest.fixture
def media(make: Maker) -> Media:
    return make()


RANGES = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(lambda ends: (min(ends), abs(ends[0] - ends[1])))
STATE_STEPS = st.tuples(st.sampled_from(["write", "zero", "save", "restore"]), RANGES, st.integers(0, 255))
STEPS = st.lists(st.tuples(st.sampled_from(["write", "zero", "read"]), RANGES, st.integers(0, 255)), max_size=12)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_bytes_are_what_was_last_written_or_zero(make: Maker, steps: list[tuple[str, tuple[int, int], int]]) -> None:
    media, model = make(), bytearray(SIZE)
    for operation, (offset, length), seed in steps:
        if operation == "write":
            data = bytes((seed + i) % 256 for i in range(length))
            media.write(offset, data)
            model[offset : offset + length] = data
        elif operation == "zero":
            media.zero(offset, length)
            model[offset : offset + length] = bytes(length)
        assert media.read(offset, length) == model[offset : offset + length]
        assert not (media.is_blank(offset, length) and any(model[offset : offset + length]))
        assert media.view(offset, length) == model[offset : offset + length]
    assert media.read(0, SIZE) == model


def test_a_new_medium_is_zero(media: Media) -> None:
    assert media.size == SIZE
    assert media.read(0, SIZE) == bytes(SIZE)
    assert media.read(SIZE, 0) == b""


def test_memory_that_was_never_written_is_known_to_be_zero_unless_reads_can_fail() -> None:
    memory = MemoryMedia(3 * SEGMENT_SIZE)
    window = MediaWindow(memory, SEGMENT_SIZE, SEGMENT_SIZE)
    memory.write(0, b"x")
    assert [medium.is_blank(0, 4096) for medium in (memory, window)] == [False, True]
    faults = Faults()
    memory.connect("pmem", faults)
    assert window.is_blank(0, 4096)
    faults.add(rule_of("media-read", "pmem", {"errno": "EIO"}))
    assert not window.is_blank(0, 4096)


def test_a_memoryview_can_be_written(media: Media) -> None:
    media.write(3, memoryview(b"012345")[2:4])
    assert media.read(0, 7) == b"\0\0\00023\0\0"


def test_bytes_that_were_read_do_not_change_later(media: Media) -> None:
    media.write(0, b"before")
    data = media.read(0, 6)
    media.write(0, b"after!")
    assert data == b"before"


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (SIZE, 1), (0, SIZE + 1), (1, -1)])
def test_a_range_outside_is_a_bug(media: Media, offset: int, length: int) -> None:
    for call in (media.read, media.zero):
        with pytest.raises(ValueError, match="do not lie in a medium of"):
            call(offset, length)
    if length > 0:
        with pytest.raises(ValueError, match="do not lie in a medium of"):
            media.write(offset, bytes(length))
    assert media.read(0, SIZE) == bytes(SIZE)


def test_flush_and_close_can_be_repeated(media: Media) -> None:
    media.write(0, b"x")
    media.flush()
    media.flush()
    assert media.read(0, 1) == b"x"
    media.close()
    media.close()


class TestMemory:
    """Memory that is sparse."""

    def test_a_petabyte_costs_what_is_written(self) -> None:
        media = MemoryMedia(PETABYTE)
        assert media.resident == 0
        media.write(PETABYTE - 3, b"end")
        media.write(PETABYTE // 2 - 1, b"ab")
        assert media.resident <= 3 * CHUNK_SIZE
        assert media.read(PETABYTE // 2 - 2, 4) == b"\0ab\0"
        assert media.read(PETABYTE - 3, 3) == b"end"

    def test_zeroing_gives_memory_back(self) -> None:
        media = MemoryMedia(PETABYTE)
        for offset in range(0, PETABYTE, PETABYTE // 64):
            media.write(offset, b"x" * CHUNK_SIZE)
        media.zero(1, PETABYTE - 1)
        assert media.resident == CHUNK_SIZE
        assert media.read(0, 2) == b"x\0"
        media.zero(0, PETABYTE)
        assert media.resident == 0

    def test_zeroing_a_part_gives_its_memory_back(self) -> None:
        media = MemoryMedia(2 * SEGMENT_SIZE)
        media.write(0, b"x" * media.size)
        media.zero(CHUNK_SIZE - 1, SEGMENT_SIZE + 2)
        assert media.resident == SEGMENT_SIZE
        assert media.read(CHUNK_SIZE - 2, 3) == b"x\0\0"
        assert media.read(SEGMENT_SIZE + CHUNK_SIZE - 1, 3) == b"\0\0x"

    @settings(max_examples=40)
    @given(steps=st.lists(STATE_STEPS, max_size=20))
    def test_each_state_can_be_restored_at_any_time(self, steps: list[tuple[str, tuple[int, int], int]]) -> None:
        media, start = MemoryMedia(2 * SEGMENT_SIZE), SEGMENT_SIZE - SIZE // 2
        now = bytearray(SIZE)
        states: list[tuple[Callable[[], None], Iterator[tuple[int, bytes | bytearray]], bytes]] = []
        for what, (offset, length), seed in steps:
            if what == "write":
                data = bytes([seed]) * length
                media.write(start + offset, data)
                now[offset : offset + length] = data
            elif what == "zero":
                media.zero(start + offset, length)
                now[offset : offset + length] = bytes(length)
            elif what == "save":
                states.append((media.saved_state(), media.contents(), bytes(now)))
            elif states:
                restore, _, expected = states[seed % len(states)]
                restore()
                now[:] = expected
            assert media.read(start, SIZE) == now
        for _, contents, expected in states:
            found = bytearray(media.size)
            for offset, piece in contents:
                found[offset : offset + len(piece)] = piece
            assert found[start : start + SIZE] == expected

    def test_no_medium_has_less_than_nothing(self) -> None:
        with pytest.raises(ValueError, match="-1 bytes"):
            MemoryMedia(-1)


class TestWindow:
    """Part of a medium."""

    def test_it_looks_at_the_same_bytes(self) -> None:
        media = MemoryMedia(100)
        window = MediaWindow(MediaWindow(media, 10, 50), 5, 10)
        window.write(0, b"0123456789")
        assert media.read(14, 12) == b"\x000123456789\0"
        media.write(15, b"X")
        assert window.read(0, 2) == b"X1"

    def test_it_cannot_leave_its_medium(self) -> None:
        with pytest.raises(ValueError, match="11 bytes at 90"):
            MediaWindow(MemoryMedia(100), 90, 11)

    def test_its_end_is_not_the_end_of_the_medium(self) -> None:
        media = MemoryMedia(10)
        MediaWindow(media, 0, 10).close()
        media.write(0, b"still here")
        assert media.read(0, 10) == b"still here"


class TestFile:
    """Files that are sparse and survive."""

    def test_bytes_survive_the_medium(self, tmp_path: Path) -> None:
        first = FileMedia(tmp_path / "pmem", SIZE)
        first.write(5, b"kept")
        first.close()
        second = FileMedia(tmp_path / "pmem", SIZE)
        assert second.read(4, 6) == b"\0kept\0"
        second.close()

    def test_bytes_survive_a_killed_process(self, tmp_path: Path) -> None:
        path = tmp_path / "pmem"
        program = (
            "import os, signal, sys\n"
            "from nvdimmfs.media.file import FileMedia\n"
            "media = FileMedia(sys.argv[1], 8192)\n"
            "media.write(4000, b'written before the end')\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        root = Path(__file__).parents[2]
        done = subprocess.run([sys.executable, "-c", program, path], cwd=root, check=False)
        assert done.returncode == -9
        media = FileMedia(path, 8192)
        assert media.read(4000, 22) == b"written before the end"
        media.close()

    def test_the_file_is_sparse(self, tmp_path: Path) -> None:
        path = tmp_path / "pmem"
        media = FileMedia(path, 1 << 40)
        media.write(1 << 39, b"x")
        media.zero(0, 1 << 39)
        status = path.stat()
        assert status.st_size == 1 << 40
        assert status.st_blocks * 512 < 1 << 20
        assert media.read(1 << 39, 1) == b"x"
        media.zero(0, 1 << 40)
        assert media.read(1 << 39, 1) == b"\0"
        media.close()

    def test_another_size_is_refused_and_changes_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "pmem"
        path.write_bytes(b"x" * 100)
        with pytest.raises(MediaError, match=r"pmem has 100 bytes, not 4096$"):
            FileMedia(path, 4096)
        assert path.read_bytes() == b"x" * 100

    def test_an_empty_file_becomes_a_medium(self, tmp_path: Path) -> None:
        path = tmp_path / "pmem"
        path.touch()
        FileMedia(path, 4096).close()
        assert path.stat().st_size == 4096

    def test_only_a_regular_file_is_a_medium(self) -> None:
        with pytest.raises(MediaError, match="/dev/null is not a regular file"):
            FileMedia("/dev/null", 4096)

    def test_a_file_is_one_medium_at_a_time(self, tmp_path: Path) -> None:
        media = FileMedia(tmp_path / "pmem", 4096)
        with pytest.raises(MediaError, match="in use as a medium elsewhere"):
            FileMedia(tmp_path / "pmem", 4096)
        media.close()
        FileMedia(tmp_path / "pmem", 4096).close()

    def test_a_refused_file_stays_closed(self, tmp_path: Path) -> None:
        before = open_files()
        (tmp_path / "pmem").write_bytes(b"x")
        with pytest.raises(MediaError):
            FileMedia(tmp_path / "pmem", 4096)
        assert open_files() == before

    def test_short_reads_and_writes_are_finished(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pread, pwrite = os.pread, os.pwrite
        monkeypatch.setattr(os, "pread", lambda fd, length, offset: pread(fd, min(length, 3), offset))
        monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:3], offset))
        media = FileMedia(tmp_path / "pmem", 4096)
        media.write(10, b"0123456789")
        assert media.read(9, 12) == b"\x000123456789\0"
        media.close()

    def test_a_full_host_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(fd: int, data: bytes, offset: int) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        media = FileMedia(tmp_path / "pmem", 4096)
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left on device"):
            media.write(0, b"x")
        media.close()

    def test_a_file_cut_short_does_not_read_as_zeros(self, tmp_path: Path) -> None:
        media = FileMedia(tmp_path / "pmem", 4096)
        os.truncate(tmp_path / "pmem", 100)
        with pytest.raises(OSError, match="became shorter"):
            media.read(50, 100)
        media.close()
