"""The build hook of the wheel: adds man pages and completions, made from the command line that the wheel holds."""

from __future__ import annotations

import importlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class SharedDataHook(BuildHookInterface):  # type: ignore[type-arg]
    """Makes what goes to share/ below the prefix of an installation, where man(1) and the shells look."""

    _folder: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the files and name them to the builder, for an editable installation too."""
        self._folder = Path(tempfile.mkdtemp(prefix="nvdimmfs-share-"))
        for path in written(Path(self.root), self._folder):
            build_data["shared_data"][str(path)] = f"share/{path.relative_to(self._folder)}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the files again."""
        if self._folder is not None:
            shutil.rmtree(self._folder)


def written(root: Path, folder: Path) -> list[Path]:
    """Make the files for share/ in a folder, from the sources below `root`."""
    before = list(sys.path)
    sys.path[:0] = [str(root), str(root / "scripts" / "distribution")]
    try:
        pages = importlib.import_module("man_pages").man_pages(root / "CHANGELOG.md")
        completions = importlib.import_module("completions").completions()
    finally:
        sys.path[:] = before
    made = []
    for name, text in {**{f"man/man1/{name}": text for name, text in pages.items()}, **completions}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        made.append(path)
    return made
