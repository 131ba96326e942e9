"""A gRPC server over `serving.http2`, which runs the method handlers of the `grpc` package."""
