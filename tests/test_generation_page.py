"""The program of docs/generation.md runs as it stands, its port aside."""

import re
import subprocess
import sys
from typing import Final

import httpx

from tests.e2e.server import READY, ROOT, starting_server

PAGE: Final = (ROOT / "docs" / "generation.md").read_text(encoding="utf-8")


def test_the_program_prints_the_text_that_rest_answers_with() -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    asked = {"text_input": "ROMEO:\n", "max_tokens": 200, "seed": 1}
    with starting_server("--model-control-mode=explicit", "--load-model=shakespeare-gpt") as server:
        server.wait_for(READY)
        done = subprocess.run(
            [sys.executable, "-c", program.replace("localhost:8001", server.grpc)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        answer = httpx.post(f"{server.url}/v2/models/shakespeare-gpt/generate", json=asked).json()

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == answer["text_output"]
