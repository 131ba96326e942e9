"""Changes messages field by field, each to what its type can hold, so that they stay messages."""

import random
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

_NUMBERS: Final = (
    *(0, 1, -1, 2, 3, 8, 255, 256, 65_536, 2**31 - 1, 2**31, -(2**31), 2**32, 2**40),
    *(2**63 - 1, -(2**63), 2**64 - 1),
)
_REALS: Final = (0.0, -0.0, 0.5, 1e308, 1e-320, float("nan"), float("inf"), float("-inf"))
_TEXTS: Final = (
    *("", "a", "b", "y", "r", "m", "0", "1", "-1", "\u00e9", "\0", "../x", "/etc", "x" * 300),
    *("FP32", "BYTES", "BF16", "BOOL", "sequence_id", "classification", "config", "file:1/m"),
    *("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset", "timeout"),
    *("onnxruntime", "identity", "ensemble", "READY", "START", "CORRID", "{}"),
)
_SIZES: Final = (0, 1, 2, 4, 8, 9, 64)
_MOST: Final = 64  # entries of a list

_BOUNDS: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def change(rng: random.Random, message: Any) -> None:
    """Change one to three fields of `message`, or of messages within it, in place."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        chosen = rng.choice(_messages(message))
        present = [field for field, _ in chosen.ListFields()]
        fields = present if present and rng.random() < 0.7 else chosen.DESCRIPTOR.fields
        if fields:
            _change_field(rng, chosen, rng.choice(fields))


def _messages(message: Any) -> list[Any]:
    """`message` and all that it is made of."""
    found = [message]
    for each in found:
        for field, value in each.ListFields():
            if field.message_type is None:
                continue
            if _is_map(field):
                if field.message_type.fields_by_name["value"].message_type is not None:
                    # In an order that is the same in every process.
                    found += [value[key] for key in sorted(value)]
            elif field.is_repeated:
                found += value
            else:
                found.append(value)
    return found


def _is_map(field: Any) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _change_field(rng: random.Random, message: Any, field: Any) -> None:
    if rng.random() < 0.2:
        message.ClearField(field.name)
    elif _is_map(field):
        _change_map(rng, getattr(message, field.name), field)
    elif field.is_repeated:
        _change_list(rng, getattr(message, field.name), field)
    elif field.message_type is not None:
        getattr(message, field.name).SetInParent()
    else:
        setattr(message, field.name, _value(rng, field))


def _change_map(rng: random.Random, entries: Any, field: Any) -> None:
    kinds = field.message_type.fields_by_name
    keys = sorted(entries)
    key = rng.choice(keys) if keys and rng.random() < 0.5 else _value(rng, kinds["key"])
    if key in entries and rng.random() < 0.3:
        del entries[key]
    elif kinds["value"].message_type is not None:
        value = entries[key]
        _change_field(rng, value, rng.choice(value.DESCRIPTOR.fields))
    else:
        entries[key] = _value(rng, kinds["value"])


def _change_list(rng: random.Random, entries: Any, field: Any) -> None:
    is_message = field.message_type is not None
    if not entries or rng.random() < 0.3:
        if len(entries) >= _MOST:
            return
        if not is_message:
            entries.append(_value(rng, field))
        elif entries:
            entries.add().CopyFrom(rng.choice(entries))
        else:
            entries.add()
        return
    at = rng.randrange(len(entries))
    if is_message or rng.random() < 0.4:
        del entries[at:]
    else:
        entries[at] = _value(rng, field)


def _value(rng: random.Random, field: Any) -> Any:
    """A value that the scalar `field` can hold."""
    kind = field.cpp_type
    if kind == field.CPPTYPE_ENUM:
        return rng.choice((*field.enum_type.values_by_number, 99))
    if kind == field.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if kind in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
        return rng.choice(_REALS)
    if kind == field.CPPTYPE_STRING:
        if field.type == field.TYPE_BYTES:
            return rng.randbytes(rng.choice(_SIZES))
        return rng.choice(_TEXTS)
    least, most = _BOUNDS[kind]
    return min(max(rng.choice(_NUMBERS), least), most)
