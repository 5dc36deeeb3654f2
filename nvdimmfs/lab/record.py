"""Make a recording of the answers of several runs: what differs between them is unstable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from nvdimmfs.lab.asking import Answer, Call, Row
from nvdimmfs.lab.comparing import compared, shorten
from nvdimmfs.lab.recording import Step
from nvdimmfs.lab.recording_text import tree_order


def recorded_steps(calls: Sequence[Call], runs: Sequence[Sequence[Answer]]) -> tuple[Step, ...]:
    """Return the questions with the answers of the first run, and marks where another run has other answers.

    Args:
        calls: the questions.
        runs: the answers of each run.
    """
    first, *others = runs
    return tuple(
        _step(call, answer, [run[index] for run in others])
        for index, (call, answer) in enumerate(zip(calls, first, strict=True))
    )


def _step(call: Call, answer: Answer, others: Sequence[Answer]) -> Step:
    if call["op"] == "read" and "data" in answer:
        answer = {**answer, "data": shorten(call["path"], answer["data"])}
    differing = {both.question for other in others for both in compared(Step(call, answer), other) if not both.agrees}
    if "rows" not in answer:
        return Step(call, answer, unstable=bool(differing))
    if any("rows" not in other for other in others):
        return Step(call, answer, unstable=True)
    return Step(call, {"rows": _marked(answer["rows"], differing, others)})


def _marked(rows: Sequence[Row], differing: set[str], others: Sequence[Answer]) -> list[Row]:
    """The rows of a dump, unstable where another dump has another row, or none, or one that the first has not."""
    every = {row["path"]: row for other in others for row in other["rows"]} | {row["path"]: row for row in rows}
    return [
        cast("Row", {**every[path], "unstable": True}) if f"dump {path}" in differing else every[path]
        for path in sorted(every, key=tree_order)
    ]
