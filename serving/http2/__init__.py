"""HTTP/2 (RFC 9113) for a server, without sockets: bytes in, calls out, bytes out."""
