"""The configuration of a model of which no more is known than its graph, as `penstock config` has
it."""

import textwrap
from pathlib import Path

from export.errors import GateRefused
from export.model_config import MODEL
from export.onnx_model import OnnxModel
from export.publish import Model
from serving.config import Source
from serving.config.commented import commented, draft
from serving.errors import LoadFailed


def describe(
    repository: Path, name: str, model: OnnxModel, max_batch_size: int, source: str, doubt: str = ""
) -> Model:
    """What all versions share; 0 rows for a model that does not batch, for which `doubt` says why.

    GateRefused for a graph, made of `source`, that no configuration fits."""
    signature = model.signature
    try:
        config = draft(name, MODEL, signature, Source(source), max_batch_size)
    except LoadFailed as error:
        raise GateRefused(error.message) from error
    text = commented(config, signature, model.symbols)
    if doubt:
        text = f"{_comment(f'Not to be batched, as the gates have found: {doubt}.')}\n\n{text}"
    return Model(repository, config.proto, text=text)


def _comment(text: str) -> str:
    lines = textwrap.wrap(text, 98, break_long_words=False, break_on_hyphens=False)
    return "\n".join(f"# {line}" for line in lines)
