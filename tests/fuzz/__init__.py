"""Mutated inputs for everything that decodes what comes from outside.

    mutation    bytes -> other bytes, by chance and by the words that a decoder looks for
    structure   documents and messages -> others, so that they parse
    targets     the decoders, each with inputs to start from
    fuzzer      runs a target until a count or a time is reached; tells of crashes and hangs

`python -m tests.fuzz --help` runs them for as long as one likes.
"""
