"""config.pbtxt of ensembles, as tests spell them."""

from typing import Final

TENSORS: Final = """\
input { name: "in" data_type: TYPE_FP32 dims: 4 }
output { name: "out" data_type: TYPE_FP32 dims: 4 }
"""


def step(model: str, reads: str, writes: str, version: int = -1, more: str = "") -> str:
    """One step; `reads` is such as `x=in z=b`, `writes` such as `y=out`: the model's name first."""
    maps = [
        f'{field} {{ key: "{name}" value: "{tensor}" }}'
        for field, pairs in (("input_map", reads), ("output_map", writes))
        for name, _, tensor in (pair.partition("=") for pair in pairs.split())
    ]
    return f'step {{ model_name: "{model}" model_version: {version} {" ".join(maps)} {more} }}'


def ensemble(
    *steps: str, tensors: str = TENSORS, head: str = 'platform: "ensemble"', tail: str = ""
) -> str:
    """The whole configuration, one step a line."""
    listed = "\n".join(steps)
    return f"{head}\n{tensors}ensemble_scheduling {{\n{listed}\n}}\n{tail}\n"
