"""The command line: one module a command, found in the table of `main`."""

from nvdimmfs.late_modules import loaded_late

with loaded_late("bz2", "ipaddress", "lzma"):  # what these import and commands have no use for
    import pathlib  # noqa: F401
    import shutil  # noqa: F401
