"""Recipes to checkpoints."""

import os

# Read when torch loads its threads, hence before it is imported. Threads that spin while they wait
# for each other take the processor from whatever else runs, and from each other first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
