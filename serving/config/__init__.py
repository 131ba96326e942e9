"""config.pbtxt: the text, the message it spells, and what the engine reads from it.

    text        parse, to_text
    source      a field's path -> the line that says it
    honoured    which fields the embedded engine honours
    rules       what Triton refuses before it has seen the graph
    parameters  the free-form parameters that mean something
    complete    resolve (before the model is opened), complete (from its graph), validate
    graph       configuration against graph
    commented   a text to start from, made from a graph
    model       ModelConfig, what the engine reads

A load goes `parse` -> `choose` -> `resolve` -> `Backend.open` -> `complete`.
"""

from serving.config.complete import BACKENDS, complete, fill_tensors, resolve, validate
from serving.config.model import ModelConfig, Reshape, choose
from serving.config.parameters import RuntimeOptions, runtime_options
from serving.config.source import Located, Refused, Source
from serving.config.text import Proto, parse, to_text

__all__ = [
    "BACKENDS",
    "Located",
    "ModelConfig",
    "Proto",
    "Refused",
    "Reshape",
    "RuntimeOptions",
    "Source",
    "choose",
    "complete",
    "fill_tensors",
    "parse",
    "resolve",
    "runtime_options",
    "to_text",
    "validate",
]
