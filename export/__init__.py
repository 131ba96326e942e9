"""From a checkpoint to a proven version in a model repository.

job           what to export, and every default
to_onnx       checkpoint -> ONNX bytes, preprocessing inside
runners       a model as a function, by torch and by ONNX Runtime
samples       what the two are compared on
parity        gate: both give the same answers
accuracy      gate: as many right answers as the checkpoint states, on the same data
model_config  the model's config.pbtxt
provenance    the commit and the library versions
publish       a place in the repository, in one step
pipeline      all of it in order
command       `penstock export`, with its report
"""
