"""What protobuf writes, read field by field, without its classes."""

from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple, TypeAlias

Content: TypeAlias = bytes | mmap


class Field(NamedTuple):
    """A field of a message: an integer, or where its bytes begin and end."""

    number: int
    integer: int
    begin: int
    end: int


def within(content: Content, outer: Field, *path: int) -> Iterator[Field]:
    """The fields at the end of a path of numbers."""
    for field in fields(content, outer.begin, outer.end):
        if field.number == path[0]:
            if len(path) == 1:
                yield field
            else:
                yield from within(content, field, *path[1:])


def integers(content: Content, field: Field) -> list[int]:
    """Of a field of many, which may be written as one or one by one."""
    if field.begin == field.end:
        return [field.integer]
    found, at = [], field.begin
    while at < field.end:
        value, at = varint(content, at)
        found.append(value)
    return found


def fields(content: Content, at: int, end: int) -> Iterator[Field]:
    """The fields of a message; ValueError or IndexError for what is none.

    What protobuf skips is skipped as well, lest a file say one thing here and another there."""
    groups = 0
    while at < end:
        key, at = varint(content, at)
        integer, begin = 0, 0
        match key & 7:
            case 0:
                integer, at = varint(content, at)
            case 1:
                at += 8
            case 2:
                size, begin = varint(content, at)
                at = begin + size
            case 3:
                groups += 1
            case 4:
                groups -= 1
                continue
            case 5:
                at += 4
            case kind:
                raise ValueError(f"a field of the kind {kind}")
        if at > end:
            raise ValueError("a field that goes on behind its message")
        if not groups:
            # Of a longer key protobuf heeds 32 bits.
            yield Field((key & 0xFFFFFFFF) >> 3, integer, begin or at, at)


def varint(content: Content, at: int) -> tuple[int, int]:
    """An integer, and where what follows it begins."""
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("an integer without end")
