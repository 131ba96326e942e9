"""Serving: from bytes on a socket to a model and back; never imports torch."""

from importlib.metadata import version

__version__ = version("penstock")
