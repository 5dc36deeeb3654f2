"""The snippets of README and docs/ work as they stand; `tests/support/snippets.py` describes their form."""

import contextlib
import os
import signal

import mounting
import pytest
import snippets

PAGES = [page for page in snippets.PAGES if any(block.language == "console" for block in snippets.blocks(page))]


@pytest.fixture
def scratch(tmp_path):
    """An empty folder, in which whatever is mounted is unmounted in the end."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    yield folder
    for place in mounting.mounted_below(folder):
        with contextlib.suppress(OSError):
            os.kill(int(os.getxattr(place, mounting.DAEMON_XATTR).split()[0]), signal.SIGKILL)
        mounting.Mount(mounting.MACHINE, place, tmp_path / "no-log").dispose()


@pytest.mark.timeout(900)  # a page is many commands, each as slow as the machine is busy
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(snippets.ROOT)))
def test_page_does_what_it_shows(page, scratch):
    if lacks := snippets.page_needs(page):
        pytest.skip(f"this host lacks {', '.join(lacks)}")
    left_out = snippets.run(page, scratch)
    print("\n".join(left_out))
    assert not mounting.mounted_below(scratch), "a page unmounts what it has mounted"
