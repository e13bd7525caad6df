"""Show the code that a loss is compiled to: its innermost loops in a table, its assembly, its optimised LLVM IR.

python benchmarks/kernel_code.py mse_loss                            the innermost loops, what is in each
python benchmarks/kernel_code.py cross_entropy_with_logits:8192x1000 --asm
python benchmarks/kernel_code.py kl_divergence:65536x10 --llvm --dtype float64
"""

import argparse
import re
import sys
from collections.abc import Iterator

import jitloss
from jitloss import bench
from jitloss.bench.kernels import BareCall, compiled_afresh

LABEL, JUMP = re.compile(r"^(\.LBB\w+):"), re.compile(r"^\tj\w+\s+(\.LBB\w+)")
COLUMNS = {
    "instructions": re.compile(r"^\t[a-z]"),
    "zmm": re.compile(r"%zmm"),
    "ymm": re.compile(r"%ymm"),
    "fma": re.compile(r"^\tvf(n?m)(add|sub)"),
    "f64": re.compile(r"^\tv\w+[ps]d\s.*%[xyz]mm"),
    "scalar f32": re.compile(r"^\tv\w+ss\s"),
    "gathers": re.compile(r"^\tv(gather|scatter)"),
    "stack": re.compile(r"\(%r[sb]p[,)]"),
    "calls": re.compile(r"^\tcall"),
    "streamed": re.compile(r"^\tv?movnt"),
}


def loops(assembly: str) -> Iterator[tuple[str, list[str]]]:
    """The innermost loops: from a label to the last jump back to it, without another loop inside."""
    lines = assembly.splitlines()
    places = {found[1]: number for number, line in enumerate(lines) if (found := LABEL.match(line))}
    spans: dict[int, int] = {}
    for number, line in enumerate(lines):
        if (found := JUMP.match(line)) and places.get(found[1], number) < number:
            spans[places[found[1]]] = number
    for begin, end in sorted(spans.items()):
        if not any(begin < other and spans[other] <= end for other in spans):
            yield lines[begin].rstrip(":"), lines[begin + 1 : end + 1]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", metavar="LOSS[:SHAPE]", help="the shape decides which kind of loop is compiled")
    parser.add_argument("--dtype", default="float32", choices=("float16", "float32", "float64"))
    parser.add_argument("--asm", action="store_true", help="print the assembly")
    parser.add_argument("--llvm", action="store_true", help="print the optimised LLVM IR")
    arguments = parser.parse_args(argv)
    try:
        work = bench.Work.parse(arguments.work)
    except ValueError as error:
        parser.error(str(error))
    few = (min(work.shape[0], 64), *work.shape[1:])
    call = BareCall(jitloss.LOSSES[work.loss], bench.inputs_for(work.definition, few, arguments.dtype))
    kernel = compiled_afresh(call.variant)
    assembly = kernel._library.get_asm_str()
    if arguments.llvm:
        print(kernel.inspect_llvm())
    if arguments.asm:
        print(assembly)
    if not arguments.llvm and not arguments.asm:
        print(f"{work.loss}, {call.variant.working}, layout {call.variant.layout!r}: lines of each innermost loop that have")
        print(f"{'loop':12}", *(f"{name:>12}" for name in COLUMNS))
        for label, body in loops(assembly):
            print(f"{label:12}", *(f"{sum(bool(pattern.search(line)) for line in body):12}" for pattern in COLUMNS.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
