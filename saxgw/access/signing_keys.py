"""The keys that a JWT issuer signs with: a JWK set (RFC 7517), from a file or from the issuer itself."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
import orjson
from jwt import PyJWK, PyJWTError

from saxgw.watched import InvalidFile, read

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Mapping
    from pathlib import Path

_log = logging.getLogger("saxgw.access")

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")

_ALGORITHMS: Final = frozenset({*_RSA, "ES256", "ES384", "ES512", "EdDSA"})
"""What tokens may be signed with: asymmetric algorithms alone. With others, who can check a token can make one."""

_REFRESH_S: Final = 300.0
"""How often the issuer is asked for its keys anyway, so that those it has taken back are forgotten."""

_UNKNOWN_S: Final = 10.0
"""How often the issuer is asked at the most because of a token that is signed with a key not known here."""

_TIMEOUT: Final = aiohttp.ClientTimeout(total=10.0)

_MAX_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key, and what it may be used for."""

    key: Any
    """The public key, as PyJWT takes it."""

    algorithms: tuple[str, ...]
    """The names of the algorithms that it goes with, as RFC 7518 has them."""


class KeySet:
    """The keys of one set that can check tokens. Raises InvalidFile, which names `source`, if there are none."""

    def __init__(self, source: str, text: bytes) -> None:
        try:
            keys = orjson.loads(text)["keys"]
            self._keys = {key.get("kid"): known for key in keys if (known := _signing_key(key)) is not None}
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise InvalidFile(f"{source} is no JWK set, an object whose keys are an array of objects") from None
        if not self._keys:
            raise InvalidFile(f"{source} has no key that can check a token: {', '.join(sorted(_ALGORITHMS))} can")

    def find(self, kid: str | None) -> SigningKey | None:
        """The key of this id; of a token that names none, the only key there is."""
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)


def _signing_key(given: Mapping[str, Any]) -> SigningKey | None:
    """The key, or None if it is for something else than to check what an issuer signs."""
    if given.get("use", "sig") != "sig" or given.get("alg", "ES256") not in _ALGORITHMS:
        return None
    try:
        key = PyJWK(dict(given))
        weakness = key.Algorithm.check_key_length(key.key)
    except PyJWTError as error:
        weakness = type(error).__name__  # not its words, which may have the key in them
    if weakness:
        _log.warning("a signing key is passed over: %s", weakness)
        return None
    if key.algorithm_name not in _ALGORITHMS:
        return None
    any_of_its_kind = _RSA if key.key_type == "RSA" and "alg" not in given else (key.algorithm_name,)
    return SigningKey(key.key, any_of_its_kind)


def read_key_set(path: Path) -> KeySet:
    """The keys of a file; raises InvalidFile."""
    return KeySet(str(path), read(path))


class FetchedKeys:
    """The keys at a URL: `async with FetchedKeys(url) as keys: keys.value`.

    They are asked for on entering, every few minutes, and when a token has a key that is not known. What cannot be had,
    or makes no sense, leaves them as they were, and is complained of in the log.

    Args:
        url: Where the issuer has its set; https.
        trust: Whom to believe; by default, whom the system believes.
    """

    def __init__(self, url: str, *, trust: ssl.SSLContext | None = None) -> None:
        self._url = url
        self._trust = trust
        self._fetching: asyncio.Task[None] | None = None
        self._asked_at = -_UNKNOWN_S
        self.value: KeySet | None = None
        """The keys; None until they could be had once."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=_TIMEOUT, connector=aiohttp.TCPConnector(ssl=True if self._trust is None else self._trust)
        )
        self._fetching = asyncio.create_task(self._fetch_now())
        self._refreshing = asyncio.create_task(self._refresh())
        return self

    async def __aexit__(self, *_: object) -> None:
        running = [task for task in (self._refreshing, self._fetching) if task is not None]
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        await self._session.close()

    def ask(self) -> Awaitable[None] | None:
        """Asks the issuer for its keys because one is not known; None if that has been done lately."""
        if self._fetching is None:
            now = time.monotonic()
            if now - self._asked_at < _UNKNOWN_S:
                return None
            self._asked_at = now
        return self._fetch()

    async def _refresh(self) -> None:
        while True:
            await self._fetch()
            await asyncio.sleep(_REFRESH_S if self.value is not None else _UNKNOWN_S)

    async def _fetch(self) -> None:
        """Fetches the keys, once for all who wait; nobody who leaves keeps the others from them."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch_now())
        await asyncio.shield(self._fetching)

    async def _fetch_now(self) -> None:
        try:
            self.value = KeySet(self._url, await self._download())
        except InvalidFile as error:
            _log.error("the keys that tokens are signed with could not be had: %s", error)
        except (aiohttp.ClientError, TimeoutError) as error:
            _log.error("the keys that tokens are signed with could not be had: %s: %s", type(error).__name__, error)
        except Exception:  # noqa: BLE001 - whatever it is, the next set must be had: it may lack a key that was lost
            _log.exception("the keys that tokens are signed with could not be had")
        finally:
            self._fetching = None

    async def _download(self) -> bytes:
        """What is at the URL. What redirects, or goes on for ever, is not followed to its end."""
        async with self._session.get(self._url, allow_redirects=False) as response:
            if response.status != HTTPStatus.OK:
                raise InvalidFile(f"{self._url} answers {response.status}")
            text = b""
            async for part in response.content.iter_any():
                text += part
                if len(text) > _MAX_BYTES:
                    raise InvalidFile(f"{self._url} has more than {_MAX_BYTES} bytes")
            return text
