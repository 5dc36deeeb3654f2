"""The page of a failing test as a text: what is on it, and that nothing on it is taken for markup."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import threading

import attrs
import pytest

from nvdimmfs.testing.plugin.evidence import Evidence, evidence_of
from nvdimmfs.testing.plugin.factory import Factory
from nvdimmfs.testing.plugin.marks import Selection
from nvdimmfs.testing.report.folder import prepare, write_page
from nvdimmfs.testing.report.page import Failure, page_of
from nvdimmfs.traces.event import TraceEvent

HOSTILE = "</script><script>document.title='x'</script><img src=x onerror=alert(1)>\"'&\x1b[2J\0\udcff\u202e"
ND = "/sys/bus/nd"

#: Elements without an end.
VOID = {"meta", "link", "img", "input"}


class Page(html.parser.HTMLParser):
    """The elements of a page with their attributes, and its texts."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.texts = []
        self._open = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, *but):
        return "".join(data for tag, data in self.texts if tag not in but)


@pytest.fixture
def factory(tmp_path):
    factory = Factory(Selection("e820", memmap="512M!4G"), lambda: tmp_path / "media", watching=True)
    yield factory
    factory.close()


def evidence(factory, *, compared=True):
    (made,) = factory
    return evidence_of(made, compared=compared)


def page(*machines, test="test_x.py::test_it", text="AssertionError"):
    return Page(page_of(Failure(test, "call", text), machines))


class TestContent:
    def test_it_shows_what_happened(self, factory):
        engine = factory.engine()
        engine.write(f"{ND}/drivers/nd_pmem/unbind", "namespace0.0")
        with pytest.raises(OSError, match="No such device"):
            engine.write(f"{ND}/drivers/nd_pmem/unbind", "namespace9.0")
        shown = page(evidence(factory))
        assert [attributes["data-op"] for attributes in shown.all("tr") if "data-op" in attributes] == [
            *["open", "write"] * 2,
            *["uevent"] * len(engine.events),
        ]
        assert len(shown.all("rect")) == len(shown.all("a")) == 4
        (refused,) = (attributes for attributes in shown.all("tr") if attributes.get("class") == "refused")
        assert {"href": f"#{refused['id']}", "class": "bad"} in shown.all("a")
        text = shown.text()
        assert "-1 ENODEV (no device 'namespace9.0' on bus nd)" in text
        assert "nd_pmem is unbound from namespace0.0" in text
        assert "driver of device namespace0.0: nd_pmem -> none" in text
        assert "SUBSYSTEM=nd DEVTYPE=nd_namespace_io" in text
        pictures = [attributes["src"].removeprefix("data:image/svg+xml;base64,") for attributes in shown.all("img")]
        before, after = (base64.b64decode(picture).decode() for picture in pictures)
        assert "bound to nd_pmem" in before
        assert "bound to no driver" in after

    def test_a_machine_that_has_not_changed_has_one_picture(self, factory):
        factory.engine()
        shown = page(evidence(factory))
        assert len(shown.all("img")) == 1
        assert "Nothing." in shown.text()

    def test_a_machine_with_a_folder_is_not_compared(self, factory, tmp_path):
        factory.engine(media=tmp_path / "own")
        assert "Not known." in page(evidence(factory)).text()

    def test_a_machine_with_a_new_folder_is_compared_with_one_in_memory(self, factory):
        factory.engine(media=True)
        assert evidence(factory).differences == []

    def test_a_machine_with_a_checkpoint_is_compared_with_that(self, factory):
        engine = factory.engine()
        engine.write(f"{ND}/drivers/nd_pmem/unbind", "namespace0.0")
        engine.checkpoint()
        engine.write(f"{ND}/devices/pfn0.0/mode", "ram")
        found = evidence(factory)
        assert found.differences == ['attribute mode of device pfn0.0: "none\\n" -> "ram\\n"']
        assert found.before == found.drawing
        assert "What differs from the last checkpoint" in page(found).text()
        engine.reset()
        assert evidence(factory).differences == []

    def test_a_machine_without_a_trace_has_no_timeline(self, factory):
        engine = factory.engine(trace=False)
        with pytest.raises(OSError, match="No such"):
            engine.write(f"{ND}/drivers/nd_pmem/unbind", "namespace9.0")
        found = evidence(factory)
        assert (found.problem, found.trace) == ("", ())
        assert not page(found).all("svg")

    def test_a_closed_machine_says_why_it_shows_no_more(self, factory):
        factory.engine().close()
        assert "the engine is closed" in page(evidence(factory)).text()

    def test_several_machines_have_sections(self, factory):
        factory.engine()
        one = evidence(factory)
        shown = page(one, attrs.evolve(one, title="another"))
        ids = [attributes["id"] for _, attributes in shown.elements if "id" in attributes]
        assert len(ids) == len({*ids})
        assert {"machine-1", "machine-2"} <= {*ids}

    def test_a_long_trace_is_cut(self):
        events = [TraceEvent(number=number, op="read", path=f"/{number}") for number in range(1, 5001)]
        shown = page(Evidence("machine", trace=events, dropped=7))
        assert "2007 events are left out." in shown.text()
        assert "/5000" in shown.text()

    def test_no_machine_is_a_page_too(self):
        assert "AssertionError" in page().text()


class TestSafety:
    def test_hostile_names_stay_text(self, factory):
        engine = factory.engine()
        for write in ((f"{ND}/devices/pfn0.0/uuid", HOSTILE), (HOSTILE.replace("\0", ""), "1")):
            with pytest.raises(OSError, match=r"rgument|No such"):
                engine.write(*write)
        hostile = attrs.evolve(
            evidence(factory),
            title=HOSTILE,
            problem=HOSTILE,
            differences=[HOSTILE],
            trace=[
                TraceEvent(op="write", path=HOSTILE, pid=1, command=HOSTILE, data=HOSTILE.encode("utf-8", "replace"))
            ],
        )
        shown = page(hostile, evidence(factory), test=HOSTILE, text=f"{HOSTILE}\n{HOSTILE}")
        clean = page(evidence(factory))
        assert len(shown.all("script")) == len(shown.all("style")) == 1
        assert {tag for tag, _ in shown.elements} <= {tag for tag, _ in clean.elements} | {"a", "rect", "ul", "li", "p"}
        names = {name for _, attributes in shown.elements for name in attributes}
        assert not [name for name in names if name.startswith("on") or name == "style"]
        assert "</script><script>document.title='x'</script>" in shown.text("script")
        assert not {"\x1b", "\0", "\udcff", "\u202e"} & {*shown.text()}

    def test_the_policy_allows_the_files_of_the_page_alone(self, factory):
        factory.engine()
        shown = page(evidence(factory))
        kind, policy = shown.all("meta")[1].values()
        assert kind == "Content-Security-Policy"
        allowed = dict(part.split(" ", 1) for part in policy.split("; "))
        assert allowed.pop("img-src") == "data:"
        for tag in ("script", "style"):
            (source,) = (data for name, data in shown.texts if name == tag)
            digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
            assert allowed.pop(f"{tag}-src") == f"'sha256-{digest}'"
        assert allowed == {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"}

    def test_it_leads_nowhere(self, factory):
        factory.engine()
        shown = page(evidence(factory))
        for _, attributes in shown.elements:
            for name in ("src", "href"):
                assert attributes.get(name, "#").startswith(("#", "data:"))
        assert "http" not in page_of(Failure("test", "call", ""), [evidence(factory)]).replace("http-equiv", "")


class TestFolder:
    def test_pages_of_an_earlier_run_go_and_other_files_stay(self, tmp_path):
        folder = tmp_path / "new" / "folder"
        prepare(folder)
        old = write_page(folder, "test_x.py::test_it[</b>]", "old")
        assert old.read_text() == "old"
        (folder / "other.html").touch()
        prepare(folder)
        assert [file.name for file in folder.iterdir()] == ["other.html"]

    def test_pages_of_workers_do_not_collide(self, tmp_path):
        start = threading.Barrier(4)

        def write(number):
            start.wait()
            for turn in range(10):
                write_page(tmp_path, f"test_{turn}", f"{number} {turn}")

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        written = sorted(file.read_text() for file in tmp_path.iterdir())
        assert written == sorted(f"{number} {turn}" for number in range(4) for turn in range(10))

    @pytest.mark.parametrize("test", ["x" * 1000, "../../etc/passwd", "größe[\udcff/\0]", ""])
    def test_any_id_has_a_name(self, tmp_path, test):
        page = write_page(tmp_path, test, "")
        assert page.parent == tmp_path
        assert page.name.isascii()
