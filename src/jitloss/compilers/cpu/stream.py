"""Outputs stored past the caches: an ordinary store to a line that is not cached first reads it, a streaming store does not.

Only whole aligned lines are streamed. The part of a line that a tile leaves over stays in its buffer for the next tile, so that
an output may have any alignment. A *flow* is three words: where the next bytes go in the buffer, the first byte that is not
written yet, and the address in the output that corresponds to the buffer's first byte.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..intrinsics import intrinsic
from .memory import LINE, order_stores
from .repeat import pick

__all__ = ["FLOW", "begin", "enqueue", "finish", "flow_out", "flowing", "place_in", "stream_through"]

FLOW = 24
"""Bytes of a flow."""

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
_LINE = ir.VectorType(_I32, LINE // 4)


def _words(builder: Any, flow: Any) -> list[Any]:
    words = builder.bitcast(flow, _I64.as_pointer())
    return [builder.gep(words, [_I64(which)]) for which in range(FLOW // 8)]


def _line(builder: Any, memory: Any) -> Any:
    return builder.bitcast(memory, _LINE.as_pointer())


def _stream(builder: Any, to: Any, buffer: Any, place: Any) -> None:
    """Store one line past the caches."""
    line = builder.load(_line(builder, builder.gep(buffer, [place])), align=LINE)
    store = builder.store(line, _line(builder, builder.gep(to, [place])), align=LINE)
    store.set_metadata("nontemporal", builder.module.add_metadata([_I32(1)]))


def _copy(builder: Any, to: Any, source: Any, count: Any) -> None:
    cgutils.raw_memcpy(builder, to, source, count, 1)


def stream_through(module: Any) -> Any:
    """A function (buffer, flow) that writes all complete lines, and moves the remainder to the front."""
    name = "jitloss.stream_through"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_BYTES, _BYTES]), name)
    function.linkage = "internal"
    buffer, flow = function.args
    builder = ir.IRBuilder(function.append_basic_block())
    end_at, first_at, base_at = _words(builder, flow)
    end, first, base = builder.load(end_at), builder.load(first_at), builder.load(base_at)
    to, lines = builder.inttoptr(base, _BYTES), builder.and_(end, _I64(-LINE))
    with builder.if_then(builder.icmp_signed(">=", end, _I64(LINE))):
        head = builder.and_(builder.neg(first), _I64(LINE - 1))
        with builder.if_then(builder.icmp_signed(">", head, _I64(0)), likely=False):
            _copy(builder, builder.gep(to, [first]), builder.gep(buffer, [first]), head)
        with cgutils.for_range_slice(builder, builder.add(first, head), lines, _I64(LINE), _I64) as (place, _):
            _stream(builder, to, buffer, place)
        rest = builder.load(_line(builder, builder.gep(buffer, [lines])), align=LINE)
        builder.store(rest, _line(builder, buffer), align=LINE)
        for word, value in ((end_at, builder.sub(end, lines)), (first_at, _I64(0)), (base_at, builder.add(base, lines))):
            builder.store(value, word)
    builder.ret_void()
    return function


def place_in(builder: Any, streamed: Any, buffer: Any, flow: Any, destination: Any) -> Any:
    """Where the next bytes go: into the buffer where they are ``streamed``, else directly to their destination."""
    inside = builder.gep(buffer, [builder.load(_words(builder, flow)[0])])
    return builder.select(streamed, inside, destination)


def enqueue(builder: Any, flow: Any, size: Any) -> None:
    """Record that so many more bytes have been written to the buffer."""
    end = _words(builder, flow)[0]
    builder.store(builder.add(builder.load(end), size), end)


@intrinsic
def begin(typing: Any, flows: Any, destinations: Any) -> Any:
    """Start each flow at its destination."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for flow, to in zip(pick(builder, args[0]), pick(builder, args[1]), strict=True):
            address = builder.ptrtoint(to, _I64)
            start = builder.and_(address, _I64(LINE - 1))
            for word, value in zip(_words(builder, flow), (start, start, builder.sub(address, start)), strict=True):
                builder.store(value, word)
        return context.get_dummy_value()

    return types.void(flows, destinations), codegen


@intrinsic
def flowing(typing: Any, streamed: Any, buffers: Any, flows: Any, destinations: Any) -> Any:
    """:func:`place_in` of each."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        each = zip(*(pick(builder, one) for one in args[1:]), strict=True)
        return context.make_tuple(builder, destinations, [place_in(builder, args[0], *one) for one in each])

    return destinations(types.boolean, buffers, flows, destinations), codegen


@intrinsic
def flow_out(typing: Any, streamed: Any, buffers: Any, flows: Any, size: Any) -> Any:
    """Where they are ``streamed``, ``size`` bytes have been written to each buffer: write the complete lines out."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        with builder.if_then(args[0]):
            for buffer, flow in zip(pick(builder, args[1]), pick(builder, args[2]), strict=True):
                enqueue(builder, flow, args[3])
                builder.call(stream_through(builder.module), [buffer, flow])
        return context.get_dummy_value()

    return types.void(types.boolean, buffers, flows, types.intp), codegen


@intrinsic
def finish(typing: Any, streamed: Any, buffers: Any, flows: Any) -> Any:
    """Where they are ``streamed``, write the remainder in each buffer, and order the stores before whatever follows."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        with builder.if_then(args[0]):
            for buffer, flow in zip(pick(builder, args[1]), pick(builder, args[2]), strict=True):
                end, first, base = (builder.load(word) for word in _words(builder, flow))
                to = builder.inttoptr(base, _BYTES)
                _copy(builder, builder.gep(to, [first]), builder.gep(buffer, [first]), builder.sub(end, first))
            order_stores(builder)
        return context.get_dummy_value()

    return types.void(types.boolean, buffers, flows), codegen
