"""Python objects in compiled code: no type is looked up, nothing is allocated, and an array is read in place.

The offsets are those of NumPy's C interface. Nothing here keeps an object alive: the caller of the compiled code does.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import NativeValue, intrinsic, models, register_model, unbox

__all__ = ["READABLE", "WRITABLE", "Object", "Table", "address_of", "fields", "of_one_type"]

_TYPE = object.__basicsize__ // 8 - 1
_FIELDS = {"data": _TYPE + 1, "axes": _TYPE + 2, "shape": _TYPE + 3, "dtype": _TYPE + 6, "flags": _TYPE + 7}
"""Offsets of an array's fields from its address, in words. The number of axes and the flags take half a word each."""

READABLE, WRITABLE = 0x101, 0x501
"""NumPy's flags of an array that is C-contiguous and aligned, and of one that is writeable as well."""

_WORD, _HALF, _BYTES = ir.IntType(64), ir.IntType(32), ir.IntType(8).as_pointer()


class Object(types.Type):  # type: ignore[misc]
    """An object that is unboxed to its address, or to 0 if it is None."""

    def __init__(self) -> None:
        super().__init__("jitloss.Object")


class Table(types.Type):  # type: ignore[misc]
    """A Python tuple of arrays, integers and None, unboxed to the address of as many words."""

    def __init__(self) -> None:
        super().__init__("jitloss.Table")


@register_model(Object)
@register_model(Table)
class _AddressModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _WORD)


@unbox(Object)
def _unbox_object(kind: Any, value: Any, c: Any) -> NativeValue:
    builder = c.builder
    is_none = builder.icmp_unsigned("==", value, c.pyapi.borrow_none())
    return NativeValue(builder.select(is_none, _WORD(0), builder.ptrtoint(value, _WORD)))


@unbox(Table)
def _unbox_table(kind: Any, value: Any, c: Any) -> NativeValue:
    """An array becomes the pointer to its data. The words are on the stack of the call."""
    builder, api = c.builder, c.pyapi
    size = api.tuple_size(value)
    words = builder.alloca(_WORD, size=size)
    integer = builder.bitcast(api.get_c_object("PyLong_Type"), _BYTES)
    none = builder.bitcast(api.borrow_none(), _BYTES)
    getitem = ir.FunctionType(api.pyobj, [api.pyobj, api.py_ssize_t])
    borrow = cgutils.get_or_insert_function(builder.module, getitem, "PyTuple_GetItem")
    with cgutils.for_range(builder, size) as loop:
        boxed = builder.call(borrow, [value, loop.index])
        item, place = builder.bitcast(boxed, _BYTES), builder.gep(words, [loop.index])
        with builder.if_else(builder.icmp_unsigned("==", item, none)) as (is_none, is_some):
            with is_none:
                builder.store(_WORD(0), place)
            with is_some:
                exact = _load(builder, item, _TYPE, _BYTES)
                with builder.if_else(builder.icmp_unsigned("==", exact, integer)) as (is_integer, is_array):
                    with is_integer:
                        builder.store(api.long_as_longlong(boxed), place)
                    with is_array:
                        builder.store(_load(builder, item, _FIELDS["data"], _WORD), place)
    return NativeValue(builder.ptrtoint(words, _WORD))


@intrinsic
def address_of(typing: Any, boxed: Any) -> Any:
    """What a table or an object was unboxed to."""
    return types.intp(boxed), lambda context, builder, signature, args: args[0]


@intrinsic
def of_one_type(typing: Any, one: Any, other: Any) -> Any:
    """Whether an object, which may be None, has exactly the type of another, not a subclass."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        there = builder.icmp_unsigned("!=", args[0], _WORD(0))
        place = builder.select(there, args[0], args[1])
        kinds = [_load(builder, builder.inttoptr(item, _BYTES), _TYPE, _WORD) for item in (place, args[1])]
        return builder.and_(there, builder.icmp_unsigned("==", *kinds))

    return types.boolean(one, other), codegen


@intrinsic
def fields(typing: Any, array: Any) -> Any:
    """An array's data, its number of axes, and its shape, dtype and flags."""
    result = types.UniTuple(types.intp, len(_FIELDS))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        item, values = builder.inttoptr(args[0], _BYTES), []
        for name, place in _FIELDS.items():
            if name in ("axes", "flags"):  # stored as C ints
                number = builder.load(builder.gep(builder.bitcast(item, _HALF.as_pointer()), [_WORD(2 * place)]))
                values.append(builder.zext(number, _WORD))
            else:
                values.append(_load(builder, item, place, _WORD))
        return context.make_tuple(builder, result, values)

    return result(array), codegen


def _load(builder: Any, item: Any, word: int, kind: Any) -> Any:
    return builder.load(builder.gep(builder.bitcast(item, kind.as_pointer()), [_WORD(word)]))
