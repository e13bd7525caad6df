"""Rows that are ratios of times: jitloss and others take turns; a ratio is the median over the rounds."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import jitloss

from ..measure import agree, copy_calls, merge_copies, outputs
from ..peers import PEERS
from ..rounds import Call, race, ratio
from ..work import Work
from .row import Goal, Row, Setting, Unavailable

__all__ = ["Race", "gradients", "race_row", "value_and_gradient", "with_peers"]

OURS = "jitloss"


@dataclass(frozen=True)
class Race:
    """jitloss's call, and factories of the calls of each other contender (a copy has two), used when they are needed."""

    ours: Call
    others: Mapping[str, Callable[[], Mapping[str, Call]]]

    @classmethod
    def of_two(cls, ours: Call, name: str, theirs: Call) -> "Race":
        return cls(ours, {name: lambda: {name: theirs}})


def race_row(group: str, name: str, goals: Iterable[Goal], prepare: Callable[[bool], Race], needs: tuple[str, ...] = ()) -> Row:
    """A row whose figures are our time over theirs, or theirs over ours where the goal is a speed-up.

    ``prepare`` is told whether the arrays should be small.
    """
    goals = tuple(goals)
    swapped = {goal.against for goal in goals if goal.at_least}

    def measured(setting: Setting) -> dict[str, float]:
        contest = prepare(setting.quick)
        calls = {OURS: contest.ours}
        for other in setting.wanted:
            calls |= contest.others[other]()
        times = race(calls, setting.rounds, setting.step, name)
        merge_copies(times)
        ours = times[OURS]
        return {one: ratio(times[one], ours) if one in swapped else ratio(ours, times[one]) for one in setting.wanted}

    return Row(group, name, goals, measured, needs)


def gradients(work: Work) -> int:
    return len(work.definition.differentiable)


def value_and_gradient(work: Work, inputs: tuple[np.ndarray, ...], **options: Any) -> Call:
    """Our call, into preallocated arrays."""
    given = {"out": outputs(work.definition, inputs), **options}
    return partial(jitloss.LOSSES[work.loss].value_and_gradient, *inputs, **given)


def with_peers(work: Work, quick: bool) -> Race:
    """Ours against a copy and all peers, each of which must agree with our result."""
    work = work.quickly() if quick else work
    inputs = work.inputs()
    ours = value_and_gradient(work, inputs)

    def peer(name: str) -> dict[str, Call]:
        call = PEERS[name](work.loss, inputs)
        if call is None:
            raise Unavailable
        agree(f"{name}, {work.title}", call(), ours())
        return {name: call}

    return Race(ours, {"copy": lambda: copy_calls(inputs, gradients(work)), **{name: partial(peer, name) for name in PEERS}})
