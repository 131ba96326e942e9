"""An engine in another process: the seam's verbs as messages over a socket between the two."""
