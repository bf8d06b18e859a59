"""What may be published: an inspector that holds fields of requests against lists of patterns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saxgw.rpc.status import Code, RpcError, error_info

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.descriptor import MethodDescriptor

    from saxgw.globs import Globs
    from saxgw.rpc.call import Call
    from saxgw.rpc.endpoint import Check, Inspector


def allow_only(lists: Mapping[str, Globs]) -> Inspector:
    """Refuses requests with PERMISSION_DENIED that have a field of one of these names whose value its list lacks."""

    def inspector(method: MethodDescriptor) -> Check | None:
        fields = [(name, globs) for name, globs in lists.items() if name in method.input_type.fields_by_name]
        if not fields:
            return None

        def check(request: Any, _: Call) -> None:  # noqa: ANN401 - a message of the method's input type
            for name, globs in fields:
                given = getattr(request, name)
                if not globs.match(given):
                    message = f'{name}: "{given}" is not among what this gateway allows'
                    raise RpcError(Code.PERMISSION_DENIED, message, [error_info("NOT_ALLOWED")])

        return check

    return inspector
