"""OpenAPI 3.1 of services that are transcoded: from their routes, descriptors and comments to plain dicts.

    described = document(transcoder.routes, title="Library", version="1", files=descriptor_set)

What the document says of bodies is what `saxgw.transcoding` takes and writes with its default options. The proto3 JSON
mapping writes one form of a value and reads several, and the schemas of requests have them. They are narrower than what
is taken in a few things: second names of fields (lowerCamelCase), null for members of oneofs, fractions and exponents
in integers that are written as strings, and JSON bodies of routes whose rule has no body. They are wider where JSON
Schema has no words: the range of a number in a string, the days of a month, what is inside of an Any.

How a server fails, what it takes beside the fields of requests and what callers must show is for the server to say
(`Failures`, `Security`).
"""

from saxgw.transcoding.openapi.document import Security, document
from saxgw.transcoding.openapi.failures import Failure, Failures, responses

__all__ = ["Failure", "Failures", "Security", "document", "responses"]
