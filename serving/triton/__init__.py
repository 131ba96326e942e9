"""An engine that is somewhere else: one or several Triton servers, asked over gRPC."""
