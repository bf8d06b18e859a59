"""Options that the gateway reads from .proto files, generated from protos/saxgw/access/v1."""
