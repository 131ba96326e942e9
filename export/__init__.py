"""From a checkpoint, a torch module or an ONNX file to a proven version in a model repository.

job, options, input_option  what to export, and every default
onnx_model    an ONNX model as a function, by ONNX Runtime
parity        gate: two models give the same answers, and a row the same in any batch
model_config  the model's config.pbtxt, of a model of ours
graph_config  the same, of a model of which no more than the graph is known
provenance    the commit and the library versions
publish       a place in the repository, in one step
report        what is seen at the terminal

`penstock export`, of a checkpoint (command, pipeline):
to_onnx       checkpoint -> ONNX bytes, preprocessing inside (served, recurrent, parts), by exporter
language      a language model as one step of generation, and its gates (language_gates)
translation   a translator as a graph that searches (loops), and its gates (translation_gates)
runners       a model as a function, by torch and by ONNX Runtime
samples       what the two are compared on
accuracy      gate: as many right answers as the checkpoint states, on the same data
proof         the passport
variants      models of lower precision, through gates of right answers and of speed
candidates    how these are made (quantise, half), and where they are measured (place)
engines       TensorRT engines (engine_key, _target, _build, _run), held against ONNX Runtime

`penstock export`, of a torch module (command, module_pipeline):
torch_module  a callable and a file of weights -> the module, and what it gives

`penstock import`, of an ONNX file (import_command, importing); needs no torch:
intake        the file and those of its weights -> a folder of our own
classifiers   a classifier's maps by class -> tensors, its label -> one for each row
onnx_gates    gates: versions, operators (operators), what ONNX itself checks (validity)
generated     inputs for a model of which nothing is known but its signature
limited       its runs, which may never come to an end
rows          gate: may its rows share batches
"""
