"""The configuration of a model of which no more is known than its graph, as `penstock config` has
it."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from export.errors import GateRefused
from export.model_config import LABELS, MODEL
from export.onnx_model import OnnxModel
from export.publish import Model, is_label
from serving.config import Proto, Source
from serving.config.commented import commented, draft
from serving.errors import LoadFailed

NONE: Final[Mapping[str, tuple[str, ...]]] = {}


def describe(
    repository: Path,
    name: str,
    model: OnnxModel,
    max_batch_size: int,
    source: str,
    doubt: str = "",
    classes: Mapping[str, tuple[str, ...]] = NONE,
) -> Model:
    """What all versions share; 0 rows for a model that does not batch, for which `doubt` says why.

    `classes` are those of the columns of outputs, where they are known.
    GateRefused for a graph, made of `source`, that no configuration fits."""
    signature = model.signature
    try:
        config = draft(name, MODEL, signature, Source(source), max_batch_size)
    except LoadFailed as error:
        raise GateRefused(error.message) from error
    labels = _label(config.proto, classes)
    text = commented(config, signature, model.symbols)
    if doubt:
        text = f"{_comment(f'Not to be batched, as the gates have found: {doubt}.')}\n\n{text}"
    return Model(repository, config.proto, labels, text)


def _label(config: Proto, classes: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The labels, of the one output whose classes are known; the configuration then names them."""
    for output in config.output:
        known = classes.get(output.name, ())
        if known and len(classes) == 1 and all(map(is_label, known)):
            output.label_filename = LABELS
            return known
    return ()


def _comment(text: str) -> str:
    lines = textwrap.wrap(text, 98, break_long_words=False, break_on_hyphens=False)
    return "\n".join(f"# {line}" for line in lines)
