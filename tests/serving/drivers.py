"""Stand-ins for NVIDIA's libraries, compiled from C: the driver is what cannot be had here."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

# The driver, as it answers where FAKE_CUDA_RESULT is what initialising it comes to.
CUDA: Final = r"""
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

static int number(const char *name) { const char *v = getenv(name); return v ? atoi(v) : 0; }
int cuInit(unsigned flags) { return number("FAKE_CUDA_RESULT"); }
int cuDeviceGetCount(int *count) { *count = number("FAKE_CUDA_DEVICES"); return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
  snprintf(name, length, device ? "NVIDIA A100 MIG 1g.10gb" : "NVIDIA A100");
  return 0;
}
int cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
  memset(uuid, 0xA0 + device, 16);
  return 0;
}
int cuGetErrorString(int error, const char **text) {
  if (error == 999) return 1;
  *text = error == 100 ? "no CUDA-capable device is detected" : "it is broken";
  return 0;
}
"""


def compiled(source: str, file: Path) -> Path:
    """A shared library of C `source`; its `soname` is the file's, as that of a driver's is."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no gcc to compile a stand-in for the driver with")
    subprocess.run(
        [compiler, "-shared", "-fPIC", f"-Wl,-soname,{file.name}", "-o", file, "-xc", "-"],
        input=source,
        text=True,
        check=True,
    )
    return file
