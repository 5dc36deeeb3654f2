"""Closing inherited files, in a child of its own."""

import os

from nvdimmfs.inherited_files import STANDARD_FILES, close_files_except, keep_open


def status_of(work):
    """The exit status of a child that does it: 0 when it returns true."""
    child = os.fork()
    if not child:
        status = 2
        try:
            status = 0 if work() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def opened():
    return os.open(os.devnull, os.O_RDONLY)


def test_all_files_are_closed_but_those_that_are_kept():
    def work():
        kept, other = opened(), opened()
        close_files_except(*STANDARD_FILES, kept)
        return is_open(kept) and not is_open(other) and all(map(is_open, STANDARD_FILES))

    assert status_of(work) == 0


def test_a_file_for_later_is_left_open_once():
    def work():
        later = opened()
        keep_open(later)
        close_files_except(*STANDARD_FILES)
        was_open = is_open(later)
        close_files_except(*STANDARD_FILES)
        return was_open and not is_open(later)

    assert status_of(work) == 0


def test_a_file_for_later_is_closed_in_a_child():
    def work():
        later = opened()
        keep_open(later)

        def is_closed():
            close_files_except(*STANDARD_FILES)
            return not is_open(later)

        return status_of(is_closed) == 0 and is_open(later)

    assert status_of(work) == 0
