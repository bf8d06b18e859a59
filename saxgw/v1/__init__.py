"""The public API of saxgw: messages and stubs generated from protos/saxgw/v1."""
