"""Whether a graph has nodes of an operator, by its bytes.

ONNX Runtime does not tell, and whoever parses a graph holds its weights in memory. What only looks
like such a node is taken for one.
"""

import re
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Final

# Files that are looked through once: a model is opened once for each of its instances.
_MOST: Final = 256


def has_node(model: bytes | Path, *operators: str) -> bool:
    """Whether the graph in a file, or in memory, has a node of any of these operators.

    False for a file that cannot be read, of which the runtime tells more.
    """
    # NodeProto.op_type is field 4, a text of so many bytes.
    nodes = b"|".join(rb"\x22%b%b" % (re.escape(bytes([len(op)])), op.encode()) for op in operators)
    if isinstance(model, bytes):
        return re.search(nodes, model) is not None
    try:
        found = model.stat()
        return _in_file(model, (found.st_ino, found.st_size, found.st_mtime_ns), nodes)
    except (OSError, ValueError):  # the latter of an empty one
        return False


@lru_cache(_MOST)
def _in_file(path: Path, _: tuple[int, int, int], nodes: bytes) -> bool:
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return re.search(nodes, content) is not None
