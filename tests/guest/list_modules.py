"""Print the folders of loaded modules, in /sys/module, as root sees them.

    python3 list_modules.py nd_pmem nd_btt >> tests/recordings/modules/e820.jsonl

It needs nothing but Python and root.  A line is `[PATH, MODE, SIZE, CONTENT]`, in the order in which the kernel lists
the names: the content of a file (of a note in hexadecimal), the target of a link, nothing for a folder or for what
cannot be read.
"""

import json
import os
import stat
import sys
from pathlib import Path

MODULES = "/sys/module"


def content(path, mode):
    """What a row has behind the size."""
    if stat.S_ISLNK(mode):
        return str(Path(path).readlink())
    if stat.S_ISDIR(mode) or not mode & 0o444:
        return None
    data = Path(path).read_bytes()
    return data.hex() if "/notes/" in path else data.decode("ascii")


def rows(folder):
    """A row for each name in a folder, each followed by those below it."""
    for path in map(str, Path(folder).iterdir()):
        status = os.lstat(path)
        size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        yield [path.removeprefix(f"{MODULES}/"), stat.filemode(status.st_mode), size, content(path, status.st_mode)]
        if stat.S_ISDIR(status.st_mode):
            yield from rows(path)


if __name__ == "__main__":
    for module in sys.argv[1:]:
        for row in rows(f"{MODULES}/{module}"):
            print(json.dumps(row))
