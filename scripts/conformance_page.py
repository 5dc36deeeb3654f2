"""The page docs/reference/conformance.md: how many recorded answers agree, and what the recordings cover."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nvdimmfs.lab.coverage import RECORDED_KERNELS, Covered, by_subject, uncovered

HEAD = """# Conformance

How far answers of real kernels stand behind those of nvdimmfs. `scripts/fidelity --write` makes this page from
[tests/recordings](../../tests/recordings/README.md) and from the tables of attributes and ioctls in the source;
`nvdimmfs lab coverage tests/recordings` prints the same with all recordings, `--json` for programs
([Ask a real kernel](../how-to/lab.md#what-the-recordings-cover)).

## Agreement

The test suite asks each question again, and fails unless each answer is the recorded one.

{table}

## Coverage

What counts is each read and each write of an attribute ([Attributes](attributes.md)), each errno that its description
names, each ioctl, and each errno of ioctl(2). A kernel that does not have a file is not counted for it.

| of | declared | {kernels} | no recording |
|---|{columns}---:|
"""

BEFORE_UNCOVERED = """
## What no recording covers

Answers that come from the kernel's source or from a specification alone:
"""

BEFORE_DETAILS = """
## Each attribute and each ioctl

A recording of each answer, and the kernels that gave it.
"""


def page(table: str, covered: list[Covered]) -> str:
    """The whole page.

    Args:
        table: how many answers agree.
        covered: what is covered.
    """
    head = HEAD.format(table=table, kernels=" | ".join(RECORDED_KERNELS), columns="---:|" * (1 + len(RECORDED_KERNELS)))
    return "\n".join([head + "\n".join(sums(covered)), *sections(covered)]).rstrip() + "\n"


def sums(covered: list[Covered]) -> Iterator[str]:
    titles = dict.fromkeys(each.fact.subject.title for each in covered)
    for title in titles:
        yield sum_row(title, [each for each in covered if each.fact.subject.title == title])
    yield sum_row("**all**", covered)


def sum_row(title: str, covered: list[Covered]) -> str:
    declared = [each for each in covered if each.declared and each.kernels]
    cells = [title, str(len(declared))]
    for kernel in RECORDED_KERNELS:
        there = [each for each in declared if kernel in each.kernels]
        cells.append(f"{sum(kernel in each.stories for each in there)} of {len(there)}")
    return row([*cells, str(len(uncovered(covered)) or "-")])


def sections(covered: list[Covered]) -> Iterator[str]:
    if holes := uncovered(covered):
        yield BEFORE_UNCOVERED
        yield from listed(holes)
    yield BEFORE_DETAILS
    title = ""
    for subject, facts in by_subject(covered).items():
        if subject.title != title:
            title = subject.title
            yield from ("", f"### {title}", "", "| of | answer: recording |", "|---|---|")
        yield row([f"`{subject.name}`", "; ".join(map(details, facts))])


def listed(covered: Iterable[Covered]) -> Iterator[str]:
    """A line for each attribute or ioctl."""
    for subject, facts in by_subject(covered).items():
        yield f"- {subject.title}, `{subject.name}`: {', '.join(each.words for each in facts)}"


def details(covered: Covered) -> str:
    """A fact, with a recording for each kernel: the same for all kernels, if one has the answers of all."""
    if not covered.stories:
        return f"{covered.words}: {'none' if covered.kernels else 'other kernels alone'}"
    names = {kernel: [story_name(name) for name in stories] for kernel, stories in covered.stories.items()}
    common = sorted(set.intersection(*map(set, names.values())))
    first = {kernel: common[0] if common else stories[0] for kernel, stories in names.items()}
    kernels: dict[str, list[str]] = {}
    for kernel, name in first.items():
        kernels.setdefault(name, []).append(kernel)
    shown = (f"`{name}` ({', '.join(answered)})" for name, answered in kernels.items())
    return f"{covered.words}: {', '.join(shown)}"


def story_name(file: str) -> str:
    """The name of a story, the same for each kernel that was asked."""
    for kernel in RECORDED_KERNELS:
        file = file.removeprefix(f"linux-{kernel}/")
    return file.rpartition(".")[0]


def row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
