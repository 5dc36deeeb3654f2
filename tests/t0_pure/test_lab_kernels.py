"""Which package of Debian has a kernel of the lab."""

import pytest

from nvdimmfs.lab import kernels, tools
from nvdimmfs.lab.errors import LabError

#: What `apt-cache show` prints of metapackages: every version that the package sources have, the newest first.
SHOWN = {
    "linux-image-amd64": """\
Package: linux-image-amd64
Version: 6.12.95-1~bpo12+1
Depends: linux-image-6.12.95+deb12-amd64 (= 6.12.95-1~bpo12+1)

Package: linux-image-amd64
Version: 6.1.192-3
Depends: linux-image-6.1.0-57-amd64 (= 6.1.192-3)

Package: linux-image-amd64
Version: 6.1.176-1
Depends: linux-image-6.1.0-50-amd64 (= 6.1.176-1)

Package: linux-image-amd64
Version: 5.10.223-1
Depends: linux-image-5.10.0-32-amd64 (= 5.10.223-1)
""",
    "linux-image-6.12-amd64": """\
Package: linux-image-6.12-amd64
Version: 6.12.117-1~deb12u1
Depends: linux-image-6.12.117+deb12-amd64 (= 6.12.117-1~deb12u1)
""",
}


@pytest.fixture
def package_sources(monkeypatch):
    def output_of(program, arguments):
        assert (program, arguments[0]) == ("apt-cache", "show")
        try:
            return SHOWN[arguments[1]]
        except KeyError:
            raise LabError("apt-cache failed with status 100: E: No packages found") from None

    monkeypatch.setattr(tools, "output_of", output_of)


@pytest.mark.parametrize(
    ("release", "package"),
    [
        ("6.12", "linux-image-6.12.117+deb12-amd64"),
        ("6.1", "linux-image-6.1.0-57-amd64"),
        ("5.10", "linux-image-5.10.0-32-amd64"),
    ],
)
def test_a_release_of_another_debian_is_found_by_an_older_version_of_the_metapackage(package_sources, release, package):
    assert kernels._package_of(release) == package


def test_a_release_that_no_version_depends_on_is_told(package_sources):
    with pytest.raises(LabError, match=r"kernel 5\.1: this host's package sources have none"):
        kernels._package_of("5.1")
