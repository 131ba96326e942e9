"""Tensors in system shared memory, by Triton's extension: requests only say where they lie."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.shared_memory import SharedMemory
from typing import Final

import numpy as np
import tritonclient.http
from tritonclient.utils import np_to_triton_dtype

from bench import load_rest
from bench.cases import Answer, Request
from bench.load import PATIENCE, Wrong
from bench.models import Array, Subject

PREFIX: Final = "penstock-bench-"


@contextmanager
def request(address: str, subject: Subject) -> Iterator[Request]:
    """A request over REST to the server at `host:port`; its regions are there until the block ends.

    Its answer is read from the region that the server shall have put it in.
    """
    with (
        _region(address, "rows", subject.rows.nbytes) as (rows, received),
        _region(address, "outputs", subject.expected.nbytes) as (outputs, sent),
    ):
        received[: subject.rows.nbytes] = subject.rows.tobytes()
        shape, datatype = list(subject.rows.shape), np_to_triton_dtype(subject.rows.dtype)
        tensor = tritonclient.http.InferInput(subject.input, shape, datatype)
        tensor.set_shared_memory(rows, subject.rows.nbytes)
        wanted = tritonclient.http.InferRequestedOutput(subject.output)
        wanted.set_shared_memory(outputs, subject.expected.nbytes)
        client = tritonclient.http.InferenceServerClient
        body, _ = client.generate_request_body([tensor], outputs=[wanted])

        def read(answer: Answer) -> Array:
            content = bytes(sent[: subject.expected.nbytes])
            return np.frombuffer(content, np.float32).reshape(subject.expected.shape)

        headers = {"Content-Type": "application/json"}
        yield Request(f"/v2/models/{subject.model}/infer", headers, bytes(body), read)


def _unregister(address: str, path: str) -> None:
    """Have the server forget a region, once it has come to the end of what it was still asked."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            load_rest.post(address, f"{path}/unregister", b"")
            return
        except Wrong as refusal:
            if "in use" not in str(refusal) or time.monotonic() > until:
                raise
        time.sleep(0.1)


@contextmanager
def _region(address: str, name: str, size: int) -> Iterator[tuple[str, "memoryview[int]"]]:
    """What the server knows a region of so many bytes by, all zero, and these bytes.

    Were this process killed, Python's resource tracker would remove the object.
    """
    memory = SharedMemory(f"{PREFIX}{os.getpid()}-{name}", create=True, size=size)
    try:
        path = f"/v2/systemsharedmemory/region/{memory.name}"
        place = json.dumps({"key": f"/{memory.name}", "offset": 0, "byte_size": size})
        load_rest.post(address, f"{path}/register", place.encode())
        assert memory.buf is not None
        yield memory.name, memory.buf
        _unregister(address, path)
    finally:
        memory.close()
        memory.unlink()
