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

# NVML, which has FAKE_GPUS devices and no driver where that is not set. The second device is cut
# into MIG instances, of which slice 1 is there and tells its memory only. This process holds
# FAKE_HELD bytes of the first. FAKE_LOST is a device that fell off the bus, and with FAKE_NO_CUDA
# the driver is there without CUDA.
NVML: Final = r"""
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, NO_DRIVER = 9,
  NO_LIBRARY = 12, LOST = 15 };
typedef unsigned long long u64;
typedef struct { u64 total, free, used; } memory_t;
typedef struct { unsigned gpu, memory; } rates_t;
typedef struct { unsigned pid; u64 used; unsigned gi, ci; } process_t;
#define MIG 100

static long number(const char *name) { const char *v = getenv(name); return v ? atol(v) : 0; }
static long of(void *device) { return (long)device - 1; }
int nvmlInitWithFlags(unsigned flags) { return getenv("FAKE_GPUS") ? OK : NO_DRIVER; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int error) {
  return error == NO_DRIVER ? "Driver Not Loaded" : "Broken";
}
int nvmlSystemGetDriverVersion(char *text, unsigned size) {
  snprintf(text, size, "580.95.05");
  return OK;
}
int nvmlSystemGetCudaDriverVersion_v2(int *version) {
  if (getenv("FAKE_NO_CUDA")) return NO_LIBRARY;
  *version = 13010;
  return OK;
}
int nvmlDeviceGetCount_v2(unsigned *count) { *count = number("FAKE_GPUS"); return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
  if (getenv("FAKE_LOST") && index == number("FAKE_LOST")) return LOST;
  *device = (void *)(long)(index + 1);
  return OK;
}
int nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *next) {
  if (of(device) != 1) return NOT_SUPPORTED;
  *now = *next = 1;
  return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) { *count = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **mig) {
  if (index != 1) return NOT_FOUND;
  *mig = (void *)(long)(MIG + 1);
  return OK;
}
int nvmlDeviceGetUUID(void *device, char *text, unsigned size) {
  snprintf(text, size, of(device) == MIG ? "MIG-b" : "GPU-%c", (char)('a' + of(device)));
  return OK;
}
int nvmlDeviceGetName(void *device, char *text, unsigned size) {
  snprintf(text, size, "NVIDIA A100");
  return OK;
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
  if (of(device) == MIG) return NOT_SUPPORTED;
  *major = 9; *minor = 0;
  return OK;
}
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
  memory->total = 80000; memory->used = 1000; memory->free = 79000;
  return OK;
}
int nvmlDeviceGetUtilizationRates(void *device, rates_t *rates) {
  if (of(device) == MIG) return NOT_SUPPORTED;
  rates->gpu = 25; rates->memory = 50;
  return OK;
}
static int told(void *device, unsigned *figure, unsigned value) {
  if (of(device) == MIG) return NOT_SUPPORTED;
  *figure = value;
  return OK;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned *mw) { return told(device, mw, 70500); }
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *mw) { return told(device, mw, 400000); }
int nvmlDeviceGetTotalEnergyConsumption(void *device, u64 *mj) {
  if (of(device) == MIG) return NOT_SUPPORTED;
  *mj = number("FAKE_ENERGY");
  return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process_t *found) {
  if (of(device) != 0 || !getenv("FAKE_HELD")) return OK;
  if (*count < 2) { *count = 2; return INSUFFICIENT_SIZE; }
  found[0].pid = 1; found[0].used = 5;
  found[1].pid = getpid(); found[1].used = number("FAKE_HELD");
  *count = 2;
  return OK;
}
"""


def compiled(source: str, file: Path) -> Path:
    """A shared library of C `source`, which bears no driver's name: it shall not be taken for one
    by what is loaded later in the process."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no gcc to compile a stand-in for the driver with")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", file, "-xc", "-"],
        input=source,
        text=True,
        check=True,
    )
    return file
