"""What a person reads of an exception, where the cause is too little memory rather than a bug."""

import errno
import os

import pytest

from nvdimmfs.cli.errors import accessing, one_line
from nvdimmfs.errors import printable

NO_MEMORY = os.strerror(errno.ENOMEM)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), f"{NO_MEMORY}; "),
        (ImportError("libcrypto.so.3: failed to map segment from shared object"), f"{NO_MEMORY}; "),
        (
            SystemError("error return without exception set"),
            "Python fails: error return without exception set, perhaps",
        ),
        (ImportError("No module named 'x'"), "a bug in nvdimmfs: ImportError: "),
        (ExceptionGroup("", [OSError(errno.ENOMEM, NO_MEMORY), BlockingIOError(errno.EAGAIN, "again")]), NO_MEMORY),
        (ExceptionGroup("", [OSError(errno.ENOMEM, NO_MEMORY), KeyError("x")]), "a bug in nvdimmfs: KeyError: "),
        (ValueError("two\nlines"), "a bug in nvdimmfs: ValueError: two lines "),
    ],
)
def test_the_line_of_an_exception(error, line):
    assert one_line(error).startswith(line)
    assert "\n" not in one_line(error)


def test_a_failure_to_write_names_the_file(tmp_path):
    with pytest.raises(OSError, match="No space") as failure, accessing(tmp_path), accessing("picture.svg"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert one_line(failure.value) == "picture.svg: No space left on device"


@pytest.mark.parametrize(
    ("name", "text"), [(b"a\xff", r"a\xff"), (b"a\nb", r"a\nb"), ("ü\u2028".encode(), r"ü\u2028"), (b"\x1b[", r"\x1b[")]
)
def test_the_name_of_a_file_is_printable(name, text):
    assert printable(os.fsdecode(name)) == text
