"""JSON Web Tokens (RFC 7519) of one issuer: their signatures, their claims, and whom they stand for.

What was checked once is remembered until it expires, so that a call with a token costs what one with a key does.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import jwt

from saxgw.access.scopes import SCOPES
from saxgw.globs import InvalidGlob
from saxgw.rpc.identity import ALL_MODELS, Identity
from saxgw.rpc.status import Code, RpcError, retry_info

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from saxgw.access.signing_keys import KeySet

_log = logging.getLogger("saxgw.access")

MODELS_CLAIM: Final = "saxgw_models"
"""The claim with the patterns for models; without it, a token is for all of them."""

_MAX_REMEMBERED: Final = 10_000

_MAX_SUBJECT: Final = 256
"""How many characters a subject may have: it names the caller in logs and answers."""

_NOBODY: Final = (None, 0.0)

_RETRY_S: Final = 10.0


class Keys(Protocol):
    """Where signing keys come from."""

    @property
    def value(self) -> KeySet | None:
        """The keys; None if they could not be had yet."""
        ...


@dataclass(frozen=True, slots=True)
class Expected:
    """What tokens must say to be for this gateway."""

    issuer: str
    """What `iss` is."""

    audience: str
    """What `aud` is, or has among others."""

    leeway_s: float
    """Seconds by which clocks may differ."""


class Tokens:
    """Tells whose tokens are.

    Args:
        keys: What the issuer signs with.
        expected: What tokens must say.
        ask: Asks for the keys anew; returns None if that is of no use now.
    """

    def __init__(
        self,
        keys: Keys,
        expected: Expected,
        ask: Callable[[], Awaitable[None] | None] = lambda: None,
    ) -> None:
        self._keys = keys
        self._expected = expected
        self._ask = ask
        self._remembered: dict[bytes, tuple[Identity | None, float]] = {}
        self._remembered_with: KeySet | None = None

    def identify(self, token: str, digest: bytes) -> Identity | Awaitable[Identity | None] | None:
        """Whose a token is, whose digest this is; None if it is nobody's, or no token.

        Raises RpcError if the issuer's keys could not be had yet.
        """
        keys = self._keys.value
        if keys is not self._remembered_with:  # what was signed with a key that is gone must be forgotten
            self._remembered.clear()
            self._remembered_with = keys
        identity, until = self._remembered.get(digest, _NOBODY)
        if until > time.time():
            return identity
        return self._check(token, digest)

    def _check(self, token: str, digest: bytes) -> Identity | Awaitable[Identity | None] | None:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except jwt.PyJWTError:
            return None
        keys = self._keys.value
        if keys is None or keys.find(kid) is None:
            asking = self._ask()
            if asking is not None:
                return self._check_after(asking, token, kid, digest)
        return self._verify(token, kid, digest)

    async def _check_after(
        self, asking: Awaitable[None], token: str, kid: str | None, digest: bytes
    ) -> Identity | None:
        await asking
        return self._verify(token, kid, digest)

    def _verify(self, token: str, kid: str | None, digest: bytes) -> Identity | None:
        keys = self._keys.value
        if keys is None:
            raise RpcError(
                Code.UNAVAILABLE,
                "the gateway cannot check tokens: it could not get their issuer's keys yet; try again later",
                [retry_info(_RETRY_S)],
            )
        key = keys.find(kid)
        if key is None:
            return None
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=key.algorithms,
                audience=self._expected.audience,
                issuer=self._expected.issuer,
                leeway=self._expected.leeway_s,
                options={"require": ["exp", "sub", "iss", "aud"]},
            )
            identity = _identity(claims)
        except (jwt.PyJWTError, InvalidGlob, TypeError, ValueError, OverflowError) as error:
            _log.debug("a token is refused: %s", type(error).__name__)
            return None
        if keys is self._remembered_with:
            if len(self._remembered) >= _MAX_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[digest] = identity, float(claims["exp"]) + self._expected.leeway_s
        return identity


def _identity(claims: dict[str, Any]) -> Identity:
    """Whom claims are about; raises InvalidGlob, TypeError or ValueError if they make no sense."""
    if not claims["sub"].isprintable() or len(claims["sub"]) > _MAX_SUBJECT:
        raise ValueError("sub is no name that logs can hold")
    granted = claims.get("scope", claims.get("scp", ""))
    scopes = granted.split() if isinstance(granted, str) else list(granted)
    models = claims.get(MODELS_CLAIM, ALL_MODELS)
    if isinstance(models, str) or not all(isinstance(model, str) for model in models):
        raise TypeError(f"{MODELS_CLAIM} is no list of patterns")
    return Identity(f"jwt:{claims['sub']}", frozenset(SCOPES).intersection(scopes), tuple(models))
