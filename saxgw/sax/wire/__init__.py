"""The Sax wire protocol: messages and stubs generated from protos/sax.

The messages live in a descriptor pool of their own, so that Google's generated modules, which define the same names,
may be imported into the same process.
"""

from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()
"""Descriptors of every message and service of the wire protocol."""
