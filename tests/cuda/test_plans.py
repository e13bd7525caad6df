"""The launch plans of calls on a device."""

import pytest

import toolkit

if reason := toolkit.missing():
    pytest.skip(reason, allow_module_level=True)

import jitloss
from jitloss.compilers.cuda.plan import choose, pieces, split
from kernels import variant


@pytest.mark.parametrize("clusters", [True, False])
@pytest.mark.parametrize("name", ["cross_entropy_with_logits", "kl_divergence", "triplet_loss"])
def test_rows_that_are_packed_are_kept_and_not_split(name, clusters):
    """The code for pieces of rows does not unpack."""
    made, packed = variant(jitloss.LOSSES[name].definition, "bfloat16"), 0
    for columns in (33, 100, 1000, 2048, 4096, 8192, 16384, 32000, 32768, 65536, 128256, 131072, 262144):
        plan = choose(made, columns, 1, True, clusters=clusters)
        parted = split(plan)
        packed += plan.packed
        assert plan.kept or not plan.packed
        for rows in (1, 2, 16, 63, 64):
            assert pieces(parted, rows, columns, 1)[0] == 1 or not parted.packed
    assert packed > 4
