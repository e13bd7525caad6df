"""How a kernel's bytecode becomes numba's IR: parts are inlined where they are called, and a plan's attributes are constants."""

import re
from dataclasses import dataclass, field
from typing import Any

import numba
import numpy as np
import pytest

from jitloss.compilers.cpu.pipeline import KernelCompiler
from jitloss.compilers.cpu.translate import part


@dataclass(frozen=True)
class Inner:
    numbers: tuple[int, ...] = (3, 5, 7)


@dataclass(frozen=True)
class Plan:
    step: int = 2
    on: bool = True
    working: Any = np.float64
    inner: Inner = field(default_factory=Inner)

    @property
    def doubled(self) -> int:
        return 2 * self.step


def compiled(function):
    """Compile a function like a kernel; ``py_func`` is the function itself, which runs in Python too."""
    return numba.njit(pipeline_class=KernelCompiler, _nrt=False)(function)


def check(function, *numbers):
    made = compiled(function)
    for number in numbers:
        assert made(number) == function(number)
    return made


@part
def nothing(plan, number):
    """Its variables are local to it, whatever has the same name elsewhere."""
    total = number * plan.step
    number = total


@part
def odd(plan, count, total):
    for number in range(count):
        if number % 2 == 0:
            continue
        total += number * plan.step
    return total


@part
def sign(number):
    if number < 0:
        return -1
    if number == 0:
        return 0
    return 1


@part
def twice(plan, number):
    total = sign(number) + plan.step
    return total + sign(-number - 1)


PLAN, OFF = Plan(), Plan(on=False)


def test_parts_stand_in_a_kernel_more_than_once():
    def kernel(count):
        total = 1
        total = odd(PLAN, count, total)
        number = 10 * total
        nothing(PLAN, total)
        return odd(PLAN, number % 7, number) + number

    check(kernel, 0, 1, 2, 9)


def test_what_a_part_returns_on_several_ways():
    def kernel(number):
        total = sign(number)
        for one in range(3):
            total = 10 * total + sign(number + one)
        return total

    check(kernel, -5, -1, 0, 4)


def test_parts_of_parts_and_names_that_meet():
    def kernel(number):
        total = 100
        return twice(PLAN, number) + total + twice(OFF, number + 1)

    check(kernel, -3, -1, 0, 2)


def test_attributes_are_constants():
    def kernel(number):
        working = PLAN.working
        return working(number) / working(PLAN.doubled) + PLAN.inner.numbers[1] + len(PLAN.inner.numbers)

    check(kernel, 1, 3)


def test_a_plan_may_have_another_name():
    def kernel(number):
        mine = PLAN.inner
        return mine.numbers[0] + mine.numbers[-1] + number

    check(kernel, 1)


def test_what_an_option_leaves_out_is_not_compiled():
    def kernel(number):
        total = number
        if OFF.on:
            total = number.nothing_has_this
        return total

    assert compiled(kernel)(3) == 3

    def other(number):
        total = number
        if PLAN.on:
            total = number.nothing_has_this
        return total

    with pytest.raises(numba.TypingError, match="nothing_has_this"):
        compiled(other)(3)


def test_parts_are_no_functions_of_their_own():
    def kernel(number):
        return twice(PLAN, number)

    made = check(kernel, 5)
    (llvm,) = made.inspect_llvm().values()
    assert not re.search(r"(define|declare|call) [^\n]*@\S*(twice|sign)", llvm)


def test_an_unknown_attribute_is_named():
    def kernel(number):
        return number + PLAN.missing

    with pytest.raises(AttributeError, match="missing"):
        compiled(kernel)(3)
