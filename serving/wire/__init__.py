"""Bytes to the core's types and back: pure functions but for shared memory, no web framework.

    rest, rest_documents       JSON with the binary tensor extension; metadata, statistics, errors
    proto, proto_documents     the same as `inference` protobuf messages
    proto_stream               what a stream adds to them
    generate                   JSON whose keys are a model's inputs
    log_settings               the logging extension's settings by name
    trace_settings             the trace extension's
    json_examples, images      what people send to /predict
        json_tensors           lists to arrays and back          elements   checked conversion
        raw_tensors            little-endian bytes to arrays and back
        json_text              bytes to JSON values, within limits; json_fast   lists of numbers
        fields, parameters     what a fault is called, alike over both protocols
        shared_memory          tensors that lie elsewhere; in ..._requests, what is asked of that

Decoding raises `serving.errors.ServingError` only, whatever bytes it is given.
"""
