"""Shell patterns of paths: whether pathname expansion would find a node, links included."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator

from attrs import define, field

from nvdimmfs.kernfs.node import Directory, Node, Symlink

#: In a directory with more names, a wildcard only finds links that have the name of their target.  All links in such a
#: directory have, as it lists devices; a device's own directory, whose links have other names, has fewer.
_MOST_NAMES = 256


def matches_path(node: Node, pattern: str) -> bool:
    """Whether a pattern from the root describes a path to the node: `sys/bus/nd/devices/*/size`.

    A wildcard matches within one name.  False for a node that was removed.
    """
    parts = pattern.split("/")
    if node.parent is None or not fnmatch.fnmatchcase(node.name, parts[-1]):
        return False
    names = node.path.split("/")[1:]
    if len(names) == len(parts) and all(map(fnmatch.fnmatchcase, names, parts)):
        return True
    return _Search(node.parent, frozenset(names)).reaches(node.parent.tree.root, tuple(parts[:-1]))


@define
class _Search:
    """A search for the paths to a directory, through links.

    Attributes:
        wanted: the directory.
        names: the names of it, of the directories above it, and of the node in it.
    """

    wanted: Directory
    names: frozenset[str]
    _seen: set[tuple[Directory, int]] = field(factory=set, init=False)

    def reaches(self, place: Directory, parts: tuple[str, ...]) -> bool:
        """Whether the patterns lead from a directory to the wanted one."""
        if not parts:
            return place is self.wanted
        if (place, len(parts)) in self._seen:
            return False
        self._seen.add((place, len(parts)))
        return any(self.reaches(child, parts[1:]) for child in self._directories(place, parts[0]))

    def _directories(self, place: Directory, pattern: str) -> Iterator[Directory]:
        """The directories that a pattern finds in one, behind links as well."""
        for name in self._matching(place, pattern):
            child = place.get(name)
            if isinstance(child, Symlink):
                child = child.target
            if isinstance(child, Directory):
                yield child

    def _matching(self, place: Directory, pattern: str) -> Iterator[str]:
        if not any(letter in pattern for letter in "*?["):
            yield pattern
            return
        names = place.names
        if len(names) > _MOST_NAMES:
            names = [name for name in self.names if name in place]
        yield from fnmatch.filter(names, pattern)
        yield from (name for name in self.names if name in place.family_names and fnmatch.fnmatchcase(name, pattern))
