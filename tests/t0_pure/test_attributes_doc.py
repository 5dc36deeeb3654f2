"""The reference of all attributes is made of their declarations, and current."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import nvdimmfs
from nvdimmfs.core.attribute import AttributeGroup
from nvdimmfs.lab.attribute_tables import CHAPTERS

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "attributes-doc"


def groups_of_the_package():
    """All groups with attributes, by where they are declared."""
    for package in ("core", "block", "dax", "nd", "drivers", "platforms"):
        path = [str(Path(nvdimmfs.__file__).parent / package)]
        for module in pkgutil.iter_modules(path, f"nvdimmfs.{package}."):
            for name, value in vars(importlib.import_module(module.name)).items():
                if isinstance(value, AttributeGroup) and value.attributes:
                    yield pytest.param(value, id=f"{module.name}.{name}")


GROUPS = list(groups_of_the_package())


def test_the_reference_is_current():
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def documented():
    """The attributes that the reference has."""
    return {attribute for chapter in CHAPTERS for _, attribute in chapter.attributes()}


@pytest.mark.parametrize("group", GROUPS)
def test_every_attribute_is_in_the_reference(group, documented):
    assert set(group.attributes) <= documented


@pytest.mark.parametrize("group", GROUPS)
def test_every_attribute_documents_its_reads_and_writes(group):
    for attribute in group.attributes:
        assert bool(attribute.reading) == bool(attribute.permissions & 0o444), attribute.name
        assert bool(attribute.writing) == bool(attribute.permissions & 0o222), attribute.name
