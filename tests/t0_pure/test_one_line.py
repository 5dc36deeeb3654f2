"""What a person reads of an exception, where the cause is too little memory rather than a bug."""

import errno
import os

import pytest

from nvdimmfs.cli.errors import one_line

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
        (ValueError("two\nlines"), "a bug in nvdimmfs: ValueError: two lines "),
    ],
)
def test_the_line_of_an_exception(error, line):
    assert one_line(error).startswith(line)
    assert "\n" not in one_line(error)
