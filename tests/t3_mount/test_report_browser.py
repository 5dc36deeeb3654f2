"""The page of a failing test in a real browser: its filter works, it fetches nothing, and names stay text."""

from __future__ import annotations

import re
import struct

import browser
import pytest

from nvdimmfs.testing.plugin.evidence import evidence_of
from nvdimmfs.testing.plugin.factory import Factory
from nvdimmfs.testing.plugin.marks import Selection
from nvdimmfs.testing.report.page import Failure, page_of

HOSTILE = "</script><script>document.title='x'</script><img src=/fetched onerror=\"document.title='x'\">"
ND = "/sys/bus/nd"


@pytest.fixture(scope="module", autouse=True)
def can_browse():
    reason = browser.why_not()
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with a page, served; the machine saw two refused writes, one of them with a hostile value."""
    folder = tmp_path_factory.mktemp("site")
    factory = Factory(Selection("e820", memmap="512M!4G"), lambda: folder)
    try:
        engine = factory.engine()
        engine.read(f"{ND}/devices/region0/size")
        engine.write(f"{ND}/drivers/nd_pmem/unbind", "namespace0.0")
        for path, value in ((f"{ND}/devices/pfn0.0/uuid", HOSTILE), (f"{ND}/drivers/nd_pmem/unbind", "namespace9.0")):
            with pytest.raises(OSError, match=r"Invalid|No such"):
                engine.write(path, value)
        shown = [evidence_of(made, compared=True) for made in factory]
    finally:
        factory.close()
    (folder / "page.html").write_text(page_of(Failure(HOSTILE, "call", HOSTILE), shown))
    with browser.served(folder) as served:
        yield served


@pytest.fixture
def dump(site, tmp_path):
    """Loads the page with a fragment: the page as it is then."""

    def load(fragment=""):
        return browser.dumped(f"{site.url}page.html#{fragment}", tmp_path / "browser")

    return load


def rows(page):
    """The lines of the timeline and the uevents: op, whether it was refused, and whether it is shown."""
    tags = re.findall(r"<tr [^>]*data-op=[^>]*>", page)
    found = [(re.search(r'data-op="(\w+)"', tag)[1], 'class="refused"' in tag, "hidden" not in tag) for tag in tags]
    assert found
    return found


def test_names_stay_text_and_nothing_is_fetched(dump, site):
    site.requested.clear()
    page = dump()
    assert site.requested == ["/page.html"]
    title = re.search(r"<title>(.*?)</title>", page, re.DOTALL)[1]
    assert title.startswith("&lt;/script&gt;&lt;script&gt;document.title='x'")
    assert page.count("<script>") == 1
    assert 'src="/fetched"' not in page
    assert "onerror=&quot;" not in re.sub(r">[^<]*<", "><", page), "in a text alone"
    assert all(shown for _, _, shown in rows(page))
    assert f"{len(rows(page))} of {len(rows(page))} lines" in page


def test_a_script_that_is_not_of_the_page_is_not_run(site, tmp_path):
    """The policy holds even if a name were taken for markup."""
    folder = tmp_path / "broken"
    folder.mkdir()
    with browser.served(folder) as served:
        text = page_of(Failure("test", "call", "PLACE"), [])
        (folder / "page.html").write_text(text.replace("PLACE", HOSTILE))
        page = browser.dumped(f"{served.url}page.html", tmp_path / "browser")
        assert served.requested == ["/page.html"]
    assert "<title>test failed</title>" in page


def test_the_address_sets_the_filter(dump):
    refused = rows(dump("only=refused"))
    assert [shown for _, _, shown in refused] == [was_refused for _, was_refused, _ in refused]
    assert sum(shown for _, _, shown in refused) == 2
    page = dump("only=write,uevent&find=NAMESPACE0.0&bare=1")
    shown = [op for op, _, is_shown in rows(page) if is_shown]
    assert "write" in shown
    assert {*shown} == {"write", "uevent"}
    assert f"{len(shown)} of {len(rows(page))} lines" in page
    assert '<body class="bare">' in page
    ticks = re.findall(r'<a href="#machine-1-event-\d+"[^>]*>', page)
    assert len([tick for tick in ticks if "hidden" not in tick]) == shown.count("write")


def test_a_picture_of_it_is_not_empty(site, tmp_path):
    """A page whose style sheet is refused is much lower than the window, and its pictures are missing."""
    picture = browser.photographed(f"{site.url}page.html", tmp_path / "browser", tmp_path / "page.png")
    assert picture.startswith(b"\x89PNG")
    assert struct.unpack(">II", picture[16:24]) == (1200, 2400)
    blank = tmp_path / "blank.html"
    blank.write_text("<!DOCTYPE html>")
    empty = browser.photographed(blank.as_uri(), tmp_path / "browser", tmp_path / "blank.png")
    assert len(picture) > 10 * len(empty)
