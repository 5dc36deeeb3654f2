"""The strategies that `nvdimmfs.testing.strategies` offers generate what they promise."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvdimmfs.machine_file.files import parse_machine
from nvdimmfs.media.memory import MemoryMedia
from nvdimmfs.nd.label import LabelStorage
from nvdimmfs.testing import Engine
from nvdimmfs.testing.strategies import label_areas, machine_files, machines, writes

sys.path.append(str(Path(__file__).parents[1] / "torture"))

import books

#: A boot and twenty writes take more than a draw of a number.
SLOW = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@settings(SLOW, max_examples=40)
@given(machines())
def test_a_machine_boots_and_all_of_it_can_be_read(machine):
    with Engine(machine) as engine:
        assert engine.diff(engine.dump()) == []
        assert list(books.problems(engine._machine)) == []


@settings(SLOW, max_examples=30)
@given(machine_files(built_in=False))
def test_a_machine_file_describes_a_machine(text):
    assert parse_machine(text, "generated").kernel


def test_half_of_the_writes_are_accepted_and_none_breaks_the_machine():
    answers = Counter()

    @settings(SLOW, max_examples=15)
    @given(st.sampled_from(("e820", "qemu-nfit-labelled", "nfit_test")), st.data())
    def walk(name, data):
        with Engine(name) as engine:
            for _ in range(20):
                write = data.draw(writes(engine))
                try:
                    engine.write(*write)
                    answers["accepted"] += 1
                except OSError:
                    answers["refused"] += 1
            assert list(books.problems(engine._machine)) == []

    walk()
    assert answers["accepted"] > answers["refused"]


@given(label_areas(most=5))
def test_a_label_area_is_valid(content):
    media = MemoryMedia(len(content))
    media.write(0, content)
    area = LabelStorage(media)
    assert area.index is not None
    assert len(area.active()) == area.layout.nslot - area.nfree <= 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": ()}, r"sizes must have numbers from 1024, not \(\)"),
        ({"sizes": (4096, 5)}, r"sizes must have numbers from 1024, not \(4096, 5\)"),
        ({"most": -1}, "most must be 0 or more, not -1"),
    ],
)
def test_label_areas_that_cannot_be_are_refused_where_they_are_asked_for(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        label_areas(**arguments)


def test_writes_are_those_of_a_machine():
    with pytest.raises(TypeError, match=r"^engine must be an Engine or a Machine, not 'e820'$"):
        writes("e820")
