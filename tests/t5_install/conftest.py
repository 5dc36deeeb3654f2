"""What an installation adds to share/: made once for each worker."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def share(tmp_path_factory):
    """The folder that the build hook of the wheel makes: man pages and completions."""
    sys.path.append(str(ROOT / "scripts" / "distribution"))
    try:
        hook = importlib.import_module("build_hook")
    finally:
        sys.path.remove(str(ROOT / "scripts" / "distribution"))
    folder = tmp_path_factory.mktemp("share")
    hook.written(ROOT, folder)
    return folder
