"""Google's own client, its Python module `sax`, behind the Protocol of saxgw.sax: `async with official.connect(root)`.

It is for those who have built it and must use it. The module blocks, so its calls are made on threads, of which there
are so many and no more; client.py tells what is different from `saxgw.sax.connect`.
"""

from saxgw.sax.official.client import OfficialClient, connect
from saxgw.sax.official.module import ModuleMissing

__all__ = ["ModuleMissing", "OfficialClient", "connect"]
