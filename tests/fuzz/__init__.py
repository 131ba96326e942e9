"""Mutated inputs for everything that decodes what comes from outside.

    mutation    bytes -> other bytes, by chance and by the words that a decoder looks for
    structure   documents and messages -> others, so that they parse; messages by their fields
    fuzzer      runs a target until a count or a time is reached; tells of crashes and hangs
    coverage    lines of serving that an input reaches, by which the fuzzer learns
    record      what all runs have found, in a file
    targets     the decoders by their names, each with inputs to start from, which are in
                bodies (REST), messages (gRPC, shared memory), models (loads, configurations)
                and exchanges (whole connections to a server)

`python -m tests.fuzz --help` runs them for as long as one likes.
"""
