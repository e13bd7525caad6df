"""CUDA kernels do not depend on what has been compiled for the CPU before or in between."""

from pathlib import Path

import pytest

import toolkit
from processes import python

if reason := toolkit.missing():
    pytest.skip(reason, allow_module_level=True)

CODE = """
import sys

sys.path.insert(0, sys.argv[2])

import numpy as np
import jitloss
from kernels import assembly_of, plans, variant
from jitloss.compilers.cuda import compile as compiler

def compiled(name):
    made = variant(jitloss.LOSSES[name].definition, "float32")
    return assembly_of(compiler.loss(made, next(iter(plans(made).values())))).text

def on_the_cpu():
    jitloss.huber_loss.value_and_gradient(np.ones(3, np.float32), np.zeros(3, np.float32))

if sys.argv[1] == "before":
    on_the_cpu()
compiled("mse_loss")
if sys.argv[1] == "between":
    on_the_cpu()
texts = [compiled(name) for name in ("l1_loss", "log_cosh_loss", "cross_entropy_with_logits")]
print([(text.count("ex2.approx"), text.count("abs.f32"), len(text.splitlines())) for text in texts])
"""


def seen(when):
    return python("-c", CODE, when, str(Path(__file__).parent), timeout=300.0)


def test_a_call_on_the_cpu_between_two_kernels():
    assert seen("between") == seen("before") == seen("never")
