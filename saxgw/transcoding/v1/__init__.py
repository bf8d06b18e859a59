"""Options that the transcoder reads from .proto files, generated from protos/saxgw/transcoding/v1."""
