"""What a caller may do: the scope of the method, before the request is read, and the model that the request names."""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

from saxgw.access.scopes import ADMIN, resource_fields, scope_of
from saxgw.rpc.call import is_loopback
from saxgw.rpc.status import Code, RpcError, error_info

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from google.protobuf.descriptor import MethodDescriptor

    from saxgw.rpc.call import Call
    from saxgw.rpc.endpoint import Check, Scope

_FORWARDED: Final = re.compile(r"forwarded|via|x-real-ip|x-(?:forwarded|envoy)-.*", re.IGNORECASE | re.DOTALL)
"""Headers by which proxies say that a call is not their own. Sidecars of a mesh that run Envoy say nothing of where it
comes from, but always that they forward it: X-Forwarded-Proto."""


def require_scope(method: MethodDescriptor) -> Scope:
    """Refuses calls with PERMISSION_DENIED whose caller was not granted the method's scope.

    Raises TypeError for a method that says no scope.
    """
    scope = scope_of(method)
    allowed = nullcontext()

    def enter(call: Call) -> AbstractContextManager[None]:
        if call.identity is None or scope not in call.identity.scopes:
            raise _denied("SCOPE_MISSING", f'{_name(call)} may not do this: {method.name} needs the scope "{scope}"')
        return allowed

    return enter


def admin_from_this_machine(method: MethodDescriptor) -> Scope | None:
    """Refuses calls of methods with the scope `admin` with PERMISSION_DENIED unless they come from loopback.

    This is for gateways that authenticate nobody. A call that a proxy has forwarded comes from elsewhere, wherever the
    proxy is; what the proxy says of where is not believed. Raises TypeError for a method that says no scope.
    """
    if scope_of(method) != ADMIN:
        return None
    allowed = nullcontext()

    def enter(call: Call) -> AbstractContextManager[None]:
        if not is_loopback(call.peer) or any(map(_FORWARDED.fullmatch, call.headers)):
            raise _denied(
                "ANONYMOUS_ADMIN",
                f"this gateway authenticates nobody, so {method.name} is taken from its own machine alone; set up API "
                "keys or tokens, or start it with --allow-anonymous-admin",
            )
        return allowed

    return enter


def require_model(method: MethodDescriptor) -> Check | None:
    """Refuses requests with PERMISSION_DENIED that name a model, or a cell, which is not among the caller's own.

    Nobody has looked for the model yet, so the answer does not tell whether there is one. Where nobody authenticates,
    everything is everybody's. Raises TypeError for a method whose request names resources in a way not known here.
    """
    fields = resource_fields(method)
    if not fields:
        return None

    def check(request: Any, call: Call) -> None:  # noqa: ANN401 - a message of the method's input type
        identity = call.identity
        if identity is None:
            return
        for field in fields:
            given = getattr(request, field)
            name = given if given.startswith("/") else f"/{given}"
            allowed = identity.may_see(name) if name.count("/") == 2 else identity.may_use(name)  # noqa: PLR2004 - /sax/cell
            if not allowed:
                raise _denied("MODEL_OUTSIDE", f'{field}: {identity.name} may not use "{name}"')

    return check


def _name(call: Call) -> str:
    return "nobody" if call.identity is None else call.identity.name


def _denied(reason: str, message: str) -> RpcError:
    return RpcError(Code.PERMISSION_DENIED, message, [error_info(reason)])
