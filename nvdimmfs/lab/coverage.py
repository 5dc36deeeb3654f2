"""Which attributes, ioctls and errnos recordings cover, on which kernels, and which none does."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from nvdimmfs.errors import printable
from nvdimmfs.kernels.kernel import KERNELS
from nvdimmfs.lab.attribute_tables import AttributeSubject, attribute_subjects
from nvdimmfs.lab.evidence import DONE, ENDS, IOCTL, READ, WRITE, Fact, Shown, Subject
from nvdimmfs.lab.frames import Json
from nvdimmfs.lab.ioctl_tables import ANY, IoctlSubject, ioctl_subjects

#: The kernels whose answers are recorded.
RECORDED_KERNELS = ("5.10", "6.1", "6.12")

#: A number such as -EIO is no refusal.
_ERRNO = re.compile(r"(?<!-)\bE[A-Z0-9]{2,}\b")

#: The errno that recordings name by its number, as Python has named it since 3.14 only.
_UNNAMED = {"EHWPOISON": "133"}

#: Parts of descriptions that are about older kernels alone.
_OLDER = re.compile(r"[^.;]*\bbefore Linux [0-9.]*[0-9]")

#: How the description of an attribute begins that always refuses.
_ALWAYS_REFUSES = re.compile(r"E[A-Z0-9]+(?::| for any value)")

#: How open(2) refuses, before an attribute is asked: there is no such file, or its mode forbids it.
_OF_OPEN = frozenset({"ENOENT", "EACCES"})


@attrs.frozen
class Covered:
    """What is declared of a subject, or recorded, and the recordings that show it.

    Attributes:
        fact: the subject, the act and the outcome.
        declared: whether the tables declare it; if not, recordings alone show it.
        kernels: the kernels of `RECORDED_KERNELS` that have the subject.
        stories: the names of the recordings that show it, by kernel.
    """

    fact: Fact
    declared: bool
    kernels: tuple[str, ...]
    stories: Mapping[str, tuple[str, ...]]

    @property
    def is_covered(self) -> bool:
        """Whether a kernel that has the subject was asked."""
        return not self.kernels or any(self.stories.get(kernel) for kernel in self.kernels)

    @property
    def words(self) -> str:
        """The act and the outcome, in words."""
        return act_in_words(self.fact)


def act_in_words(fact: Fact) -> str:
    """An act and its outcome: `read`, `written`, `EINVAL when written`."""
    named = {number: name for name, number in _UNNAMED.items()}.get(fact.outcome, fact.outcome)
    if fact.act == IOCTL:
        return named or "done"
    return f"{named} when {_DONE_WORDS[fact.act]}" if named else _DONE_WORDS[fact.act]


_DONE_WORDS = {READ: "read", WRITE: "written"}


def coverage(shown: Mapping[str, Shown]) -> list[Covered]:
    """Compare what is declared with what recordings show; in the order of the tables.

    Args:
        shown: what each recording shows, by its name.
    """
    stories: dict[Fact, dict[str, list[str]]] = {}
    for name in sorted(shown):
        for fact in shown[name].facts:
            stories.setdefault(fact, {}).setdefault(shown[name].kernel, []).append(name)
    recorded: dict[Subject, list[Fact]] = {}
    for fact in sorted(stories, key=_order):
        recorded.setdefault(fact.subject, []).append(fact)
    subjects: tuple[Subject, ...] = (*attribute_subjects(), *ioctl_subjects())
    return [each for subject in subjects for each in _of_subject(subject, recorded.get(subject, []), stories)]


def _of_subject(
    subject: Subject, recorded: list[Fact], stories: Mapping[Fact, Mapping[str, list[str]]]
) -> Iterator[Covered]:
    """What is declared of a subject, then what recordings alone show."""
    declared = list(dict.fromkeys(_declared(subject)))
    if isinstance(subject, IoctlSubject) and subject.is_refused:
        declared = recorded or declared
    for fact in dict.fromkeys((*declared, *recorded)):
        yield _covered(fact, fact in declared, stories.get(fact, {}))


def _order(fact: Fact) -> tuple[str, str]:
    return fact.act, fact.outcome


def _covered(fact: Fact, declared: bool, stories: Mapping[str, Sequence[str]]) -> Covered:
    kernels = tuple(name for name in RECORDED_KERNELS if _has(fact, name))
    return Covered(fact, declared, kernels, {kernel: tuple(names) for kernel, names in sorted(stories.items())})


def _has(fact: Fact, kernel: str) -> bool:
    if isinstance(fact.subject, IoctlSubject):
        return True
    return any(each.exists_in(KERNELS[kernel]) for each in fact.subject.declared)


def _declared(subject: Subject) -> Iterator[Fact]:
    """What the tables declare: reads, writes, and each errno that their descriptions name."""
    if isinstance(subject, IoctlSubject):
        if subject.name == ANY:
            yield from (Fact(subject, IOCTL, name) for name in errnos_in(subject.described))
        else:
            yield Fact(subject, IOCTL, DONE)
        return
    for act, texts in ((READ, [each.reading for each in subject.declared]), (WRITE, _writing(subject))):
        for text in filter(None, texts):
            if not _ALWAYS_REFUSES.match(text):
                yield Fact(subject, act, DONE)
            yield from (Fact(subject, act, name) for name in errnos_in(text))


def _writing(subject: AttributeSubject) -> list[str]:
    return [each.writing for each in subject.declared]


def errnos_in(text: str) -> list[str]:
    """The errnos that a text names, as recordings name them; those of older kernels are left out."""
    names = _ERRNO.findall(_OLDER.sub("", text))
    numbers = {name: getattr(errno, name) for name in names if hasattr(errno, name)}
    found = (errno.errorcode[numbers[name]] if name in numbers else _UNNAMED.get(name) for name in names)
    return list(dict.fromkeys(filter(None, found)))


def uncovered(covered: Iterable[Covered], kernel: str | None = None) -> list[Covered]:
    """What is declared, and no recording shows.

    Args:
        covered: everything.
        kernel: only recordings of this kernel count, and what it has; None for all.
    """
    if kernel is None:
        return [each for each in covered if each.declared and not each.is_covered]
    return [each for each in covered if each.declared and kernel in each.kernels and kernel not in each.stories]


def undeclared(covered: Iterable[Covered]) -> list[Covered]:
    """Refusals of attributes that recordings show and the tables do not declare, apart from those of open(2)."""
    return [
        each
        for each in covered
        if not each.declared
        and isinstance(each.fact.subject, AttributeSubject)
        and each.fact.outcome not in (DONE, *_OF_OPEN)
    ]


def recordings_below(folder: Path) -> list[str]:
    """The recordings of all forms below a folder, as paths below it."""
    files = (file for end in ENDS for file in folder.rglob(f"*{end}"))
    return sorted(str(file.relative_to(folder)) for file in files)


def as_text(covered: Iterable[Covered]) -> Iterator[str]:
    """Lines for a person: each subject with what is known of it, then what no recording shows, then the sums."""
    whole = list(covered)
    title = ""
    for subject, facts in by_subject(whole).items():
        if subject.title != title:
            title = subject.title
            yield title
        yield f"  {subject.name}: {'; '.join(map(_in_line, facts))}"
    holes = uncovered(whole)
    yield from ("", "no recording shows:") if holes else ()
    yield from (f"  {each.fact.subject.title}, {each.fact.subject.name}: {each.words}" for each in holes)
    yield sums(whole)


def _in_line(covered: Covered) -> str:
    kernels = [f"{kernel} ({len(names)})" for kernel, names in covered.stories.items()]
    return f"{printable(covered.words)} {', '.join(kernels) or 'none'}"


def sums(covered: list[Covered]) -> str:
    """How much of what is declared is covered, in a line."""
    declared = [each for each in covered if each.declared and each.kernels]
    words = [f"{len(declared) - len(uncovered(covered))}/{len(declared)} covered"]
    for kernel in RECORDED_KERNELS:
        there = [each for each in declared if kernel in each.kernels]
        words.append(f"on {kernel} {sum(kernel in each.stories for each in there)}/{len(there)}")
    return f"all: {', '.join(words)}"


def by_subject(covered: Iterable[Covered]) -> dict[Subject, list[Covered]]:
    """The same by attribute and ioctl."""
    found: dict[Subject, list[Covered]] = {}
    for each in covered:
        found.setdefault(each.fact.subject, []).append(each)
    return found


def as_json(covered: Iterable[Covered]) -> Json:
    """Everything, with the names of all recordings."""
    rows: list[Json] = [
        {
            "kind": "ioctl" if each.fact.act == IOCTL else "attribute",
            "of": each.fact.subject.title,
            "name": each.fact.subject.name,
            "act": each.fact.act,
            "errno": each.fact.outcome or None,
            "declared": each.declared,
            "kernels": [*each.kernels],
            "covered": each.is_covered,
            "recordings": {kernel: [*names] for kernel, names in each.stories.items()},
        }
        for each in covered
    ]
    return {"coverage": rows}
