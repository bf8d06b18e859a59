"""The operations of saxgw.v1.SaxService, for any transport."""

from saxgw.service.operations import SaxService
from saxgw.service.readiness import canonical, model_of, readiness_of
from saxgw.service.status import error_class, status_of

__all__ = ["SaxService", "canonical", "error_class", "model_of", "readiness_of", "status_of"]
