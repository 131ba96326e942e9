"""config.pbtxt: the text, the message it spells, and what the engine reads from it.

    text        parse, to_text
    source      a field's path -> the line that says it
    honoured    which fields the embedded engine honours
    rules       what Triton refuses before it has seen the graph
    ensemble    an ensemble's steps, and whether its tensors flow
    ensemble_steps  an ensemble against the models of its steps
    scheduling  what Triton refuses in the choice of a scheduler
    sequences   control inputs and states
    sequence_rules  what Triton refuses in them
    graph_sequences  controls and states against the graph
    ragged      inputs of different sizes in one batch
    warmup      the samples to run before a model is ready
    model_metrics  further labels, and buckets
    paths       whether a file's name stays in its folder
    parameters  the free-form parameters that mean something
    accelerators  the options of ONNX Runtime's providers for GPUs
    optimisers  which of ONNX Runtime's optimisers a session goes without
    placement   which device each session executes on
    splitting   whether large requests may be split
    complete    resolve (before the model is opened), complete (from its graph), validate
    graph       configuration against graph
    graph_traits  what a file says of its nodes
    deadly_values  which values of integers would end the process
    protobuf_fields  messages without their classes
    commented   a text to start from, made from a graph
    model       ModelConfig, what the engine reads

A load goes `parse` -> `choose` -> `resolve` -> `Backend.open` -> `complete`.
"""

from serving.config.complete import (
    BACKENDS,
    Completion,
    complete,
    complete_ensemble,
    fill_tensors,
    resolve,
    validate,
)
from serving.config.ensemble import Step, dependencies, is_ensemble
from serving.config.ensemble_steps import step_faults
from serving.config.graph_traits import Traits, traits
from serving.config.model import ModelConfig, Reshape, choose, likely_batch_sizes
from serving.config.optimisers import LEFT_OUT, left_out
from serving.config.parameters import RuntimeOptions, runtime_options
from serving.config.placement import CPU, Placement, instance_sessions, placements, within
from serving.config.ragged import BatchInput, BatchInputKind
from serving.config.sequences import Control, ControlKind, State
from serving.config.source import Located, Refused, Source, refuse
from serving.config.text import Proto, from_json, parse, to_text
from serving.config.warmup import WarmupData, WarmupInput, WarmupSample

__all__ = [
    "BACKENDS",
    "CPU",
    "LEFT_OUT",
    "BatchInput",
    "BatchInputKind",
    "Completion",
    "Control",
    "ControlKind",
    "Located",
    "ModelConfig",
    "Placement",
    "Proto",
    "Refused",
    "Reshape",
    "RuntimeOptions",
    "Source",
    "State",
    "Step",
    "Traits",
    "WarmupData",
    "WarmupInput",
    "WarmupSample",
    "choose",
    "complete",
    "complete_ensemble",
    "dependencies",
    "fill_tensors",
    "from_json",
    "instance_sessions",
    "is_ensemble",
    "left_out",
    "likely_batch_sizes",
    "parse",
    "placements",
    "refuse",
    "resolve",
    "runtime_options",
    "step_faults",
    "to_text",
    "traits",
    "validate",
    "within",
]
