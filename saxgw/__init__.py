"""A gRPC and HTTP/JSON gateway in front of a Saxml cell."""

__version__ = "0.1.0"
