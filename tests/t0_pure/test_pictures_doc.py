"""The pictures in docs/images are drawn by the program, and current."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "scripts" / "pictures"
IMAGES = ROOT / "docs" / "images"


def test_the_pictures_are_current():
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_picture_is_shown_somewhere():
    pages = "".join(page.read_text() for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    assert {path.name for path in IMAGES.glob("*.svg")} == set(re.findall(r"images/([\w-]+\.svg)", pages))
