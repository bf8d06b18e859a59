"""The operations of saxgw.v1.SaxService, for any transport."""

from saxgw.service.operations import SaxService
from saxgw.service.status import error_class, status_of

__all__ = ["SaxService", "error_class", "status_of"]
