"""Ensembles of doubling models, and what their answers hold."""

import numpy as np

from tests.ensembles import ensemble, step

HEAD = 'platform: "ensemble" max_batch_size: 8'
ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)
BOTH = """\
input { name: "in" data_type: TYPE_FP32 dims: 4 }
output { name: "one" data_type: TYPE_FP32 dims: 4 }
output { name: "other" data_type: TYPE_FP32 dims: 4 }
"""
FORK = ensemble(step("a", "x=in", "y=one"), step("b", "x=in", "y=other"), head=HEAD, tensors=BOTH)
CHAIN = ensemble(step("a", "x=in", "y=mid"), step("b", "x=mid", "y=out"), head=HEAD)
ONE = ensemble(step("a", "x=in", "y=out"), head=HEAD)


def tensors_of(dims: str) -> str:
    return "".join(
        f'{kind} {{ name: "{name}" data_type: TYPE_FP32 dims: {dims} }}\n'
        for kind, name in (("input", "in"), ("output", "out"))
    )


def outputs(response: object) -> dict[str, list[object]]:
    return {one.name: one.array.tolist() for one in response.outputs}  # type: ignore[attr-defined]
