"""All of access, as the settings have it."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from saxgw.access.allow_lists import allow_only
from saxgw.access.authentication import authenticate
from saxgw.access.authorization import admin_from_this_machine, require_model, require_scope
from saxgw.access.keys import KeyRing, digest, read_keys
from saxgw.globs import Globs
from saxgw.watched import Watched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from saxgw.access.authentication import Identify
    from saxgw.access.tokens import Tokens
    from saxgw.rpc.endpoint import Inspector, Interceptor
    from saxgw.rpc.identity import Identity
    from saxgw.settings import Settings

_NO_KEYS: Final = KeyRing(())


@dataclass(frozen=True)
class Access:
    """What decides about calls, for make_endpoints()."""

    interceptors: tuple[Interceptor, ...] = ()
    inspectors: tuple[Inspector, ...] = ()


@asynccontextmanager
async def access(settings: Settings) -> AsyncIterator[Access]:
    """What decides about calls, following the files and the URL that it goes by while it is entered.

    Raises InvalidFile on entering if a file makes no sense.
    """
    inspectors: list[Inspector] = []
    if lists := {
        name: Globs(globs)
        for name, globs in (("model_path", settings.allow_model_path), ("checkpoint", settings.allow_checkpoint))
        if globs
    }:
        inspectors.append(allow_only(lists))
    async with AsyncExitStack() as stack:
        if settings.authenticates:
            keys = await _keys(settings, stack) if settings.api_keys else None
            tokens = await _tokens(settings, stack) if settings.jwt_jwks else None
            yield Access((authenticate(_identify(keys, tokens)), require_scope), (require_model, *inspectors))
        else:
            yield Access(() if settings.allow_anonymous_admin else (admin_from_this_machine,), tuple(inspectors))


async def _keys(settings: Settings, stack: AsyncExitStack) -> Watched[KeyRing]:
    path = Path(settings.api_keys)
    return await stack.enter_async_context(Watched([path], lambda: KeyRing(read_keys(path).values())))


async def _tokens(settings: Settings, stack: AsyncExitStack) -> Tokens:
    from saxgw.access.signing_keys import FetchedKeys, read_key_set  # noqa: PLC0415 - with tokens below
    from saxgw.access.tokens import Expected, Tokens  # noqa: PLC0415 - needs the extra `jwt`, which settings have looked for

    expected = Expected(settings.jwt_issuer, settings.jwt_audience, settings.jwt_leeway)
    if urlsplit(settings.jwt_jwks).scheme == "https":
        fetched = await stack.enter_async_context(FetchedKeys(settings.jwt_jwks))
        return Tokens(fetched, expected, fetched.ask)
    path = Path(settings.jwt_jwks)
    return Tokens(await stack.enter_async_context(Watched([path], lambda: read_key_set(path))), expected)


def _identify(keys: Watched[KeyRing] | None, tokens: Tokens | None) -> Identify:
    """Tells whose a credential is, be it a key or a token."""

    def identify(credential: str) -> Identity | Awaitable[Identity | None] | None:
        known_by = digest(credential)
        identity = (_NO_KEYS if keys is None else keys.value).find(known_by)
        return identity if identity is not None or tokens is None else tokens.identify(credential, known_by)

    return identify
