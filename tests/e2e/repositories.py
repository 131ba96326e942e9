"""Scratch repositories of the identity backend, whose executions take as long as a test says."""

from pathlib import Path
from string import Template
from typing import Final

_CONFIG: Final = Template("""\
backend: "identity"
max_batch_size: $max_batch_size
input { name: "x" data_type: TYPE_FP32 dims: [$dims] }
output { name: "y" data_type: TYPE_FP32 dims: [$dims] $output }
parameters { key: "execute_delay_ms" value { string_value: "$delay_ms" } }
$more
""")
# Else each size of batches that is likely would take its time twice before the model is ready.
_ONE_RUN: Final = Template("""\
model_warmup {
  name: "once" batch_size: 1
  inputs { key: "x" value { data_type: TYPE_FP32 dims: [$dims] zero_data: true } }
}
""")


def add_identity(
    repository: Path,
    name: str = "echo",
    *,
    delay_ms: int = 0,
    max_batch_size: int = 1,
    dims: str = "1",
    output: str = "",
    more: str = "",
) -> Path:
    """Add a model that returns its FP32 input `x` as `y`; gives the model's folder.

    `output` goes into the output's configuration, `more` behind everything.
    """
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    if delay_ms:
        more += _ONE_RUN.substitute(dims=dims)
    (folder / "config.pbtxt").write_text(
        _CONFIG.substitute(
            max_batch_size=max_batch_size, dims=dims, output=output, delay_ms=delay_ms, more=more
        )
    )
    return folder
