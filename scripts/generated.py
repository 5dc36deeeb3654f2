"""Files that the scripts in this folder generate: written, or with --check compared with what is there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def write_or_check(description: str | None, files: Mapping[Path, str]) -> int:
    """Write files, or with --check on the command line, only report those that are not current; the exit status.

    Args:
        description: what the script writes, for its --help.
        files: what each file has to contain.
    """
    script = Path(sys.argv[0]).name
    parser = argparse.ArgumentParser(prog=script, description=description)
    parser.add_argument("--check", action="store_true", help="change nothing; the status is 0 if nothing would change")
    check = parser.parse_args().check
    stale = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if check:
            print(f"{path.relative_to(ROOT)} is not current: run scripts/{script}", file=sys.stderr)
        else:
            path.write_text(files[path], encoding="utf-8")
    return int(check and bool(stale))
