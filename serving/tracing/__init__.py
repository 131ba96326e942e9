"""Traces: where the time of single requests went, for those that are picked out.

settings     what is traced: Triton's trace settings, of the server and of single models
config       what is told at start: --trace-config
trace        the record of one request
tracer       picks requests out and hands their records to an exporter
triton_file  an exporter: the JSON files that Triton writes
otlp         an exporter: OpenTelemetry's protocol, an extra
"""
