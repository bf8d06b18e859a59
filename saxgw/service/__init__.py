"""The operations of saxgw.v1.SaxService, for any transport."""

from saxgw.service.operations import SaxService
from saxgw.service.status import status_of

__all__ = ["SaxService", "status_of"]
