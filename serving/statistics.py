"""What is counted per model version: one record behind the statistics API and the metrics.

Written by the thread that runs the event loop only, so plain integers do; durations are
nanoseconds.
"""
