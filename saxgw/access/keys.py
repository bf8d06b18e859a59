"""API keys: a file of them, one JSON object a line, in which each stands as its SHA-256.

A key is 256 random bits, which nobody guesses however fast a hash is: what makes hashes of passwords slow, that people
choose them, is not so here, and would cost every call milliseconds. It is looked up by its hash, so what a wrong key's
answer takes tells nothing of the right ones.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from saxgw.access.scopes import SCOPES
from saxgw.globs import InvalidGlob
from saxgw.rpc.identity import ALL_MODELS, Identity
from saxgw.watched import InvalidFile, read

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_PREFIX: Final = "saxgw_"
"""By this, tools that look for leaked secrets know a key."""

_KEY_BYTES: Final = 32

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")

_HASH: Final = re.compile(r"[0-9a-f]{64}")

_FIELDS: Final = frozenset({"name", "sha256", "scopes", "models", "created", "expires"})


class InvalidKey(ValueError):
    """A key, or what shall become one, makes no sense; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key; not the key itself."""

    identity: Identity
    """Whose it is: its name, scopes and models."""

    sha256: str
    """The key's hash, in hexadecimal digits."""

    expires_at: float
    """When it ceases to hold, in seconds since 1970; infinite if it does not."""

    created: str = ""
    """When it was made, as RFC 3339 has it."""

    @classmethod
    def new(
        cls, name: str, scopes: Iterable[str], models: Iterable[str] = ALL_MODELS, *, lifetime_s: float = math.inf
    ) -> tuple[str, Self]:
        """Makes a key; returns it and what is to be known of it. Raises InvalidKey."""
        secret = _PREFIX + secrets.token_urlsafe(_KEY_BYTES)
        now = time.time()
        identity = _identity(name, list(scopes), list(models))
        return secret, cls(identity, digest(secret).hex(), now + lifetime_s, _timestamp(now))

    @classmethod
    def from_json(cls, line: bytes) -> Self:
        """Reads a line of the file; raises InvalidKey."""
        try:
            given = orjson.loads(line)
        except orjson.JSONDecodeError:
            raise InvalidKey("it is not JSON") from None
        if not isinstance(given, dict):
            raise InvalidKey("it is not a JSON object")
        if unknown := given.keys() - _FIELDS:
            raise InvalidKey(f"nothing is known of {', '.join(sorted(unknown))}")
        sha256, expires, created = given.get("sha256"), given.get("expires"), given.get("created", "")
        if not isinstance(sha256, str) or not _HASH.fullmatch(sha256):
            raise InvalidKey("sha256 is not 64 hexadecimal digits")
        if not isinstance(created, str):
            raise InvalidKey("created is not a text")
        identity = _identity(given.get("name"), given.get("scopes"), given.get("models", list(ALL_MODELS)))
        return cls(identity, sha256, math.inf if expires is None else _seconds(expires), created)

    def to_json(self) -> bytes:
        """The line of the file, without its end."""
        expires = {} if math.isinf(self.expires_at) else {"expires": _timestamp(self.expires_at)}
        return orjson.dumps(
            {
                "name": self.identity.name,
                "sha256": self.sha256,
                "scopes": sorted(self.identity.scopes),
                "models": self.identity.models,
                "created": self.created,
                **expires,
            }
        )


_NOBODY: Final = (None, math.inf)
"""What is found where nothing is: an unknown key and one that has expired are then told in the same steps."""


class KeyRing:
    """The keys of a file."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._by_digest = {bytes.fromhex(key.sha256): (key.identity, key.expires_at) for key in keys}

    def find(self, key_digest: bytes) -> Identity | None:
        """Whose key has this digest; None if none has, or it has expired."""
        identity, expires_at = self._by_digest.get(key_digest, _NOBODY)
        return identity if expires_at > time.time() else None


def digest(credential: str) -> bytes:
    """What a credential is known by."""
    return hashlib.sha256(credential.encode(errors="replace")).digest()


def read_keys(path: Path) -> dict[str, ApiKey]:
    """The keys of a file by name, in its order. Raises InvalidFile, naming the line."""
    keys: dict[str, ApiKey] = {}
    for number, line in enumerate(read(path).splitlines(), 1):
        if not holds_key(line):
            continue
        try:
            key = ApiKey.from_json(line)
        except InvalidKey as error:
            raise InvalidFile(f"line {number} of {path} is no API key: {error}") from None
        if key.identity.name in keys:
            raise InvalidFile(f"line {number} of {path} has a second key {key.identity.name}")
        keys[key.identity.name] = key
    return keys


def holds_key(line: bytes) -> bool:
    """Whether a line of the file is meant to be a key; empty ones, and those that start with #, are for people."""
    return bool(line.strip()) and not line.startswith(b"#")


def _identity(name: Any, scopes: Any, models: Any) -> Identity:  # noqa: ANN401 - of whatever type JSON has
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidKey("a name is up to 64 letters, digits and _ . @ -, and starts with a letter or a digit")
    if not isinstance(scopes, list) or not scopes or not all(scope in SCOPES for scope in scopes):
        raise InvalidKey(f"scopes are one or more of {', '.join(SCOPES)}")
    if not isinstance(models, list) or not models or not all(isinstance(model, str) for model in models):
        raise InvalidKey("models are one or more patterns, such as /sax/test/*")
    try:
        return Identity(name, frozenset(scopes), tuple(models))
    except InvalidGlob as error:
        raise InvalidKey(str(error)) from None


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


def _seconds(timestamp: Any) -> float:  # noqa: ANN401 - as above
    try:
        moment = datetime.fromisoformat(timestamp)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidKey("expires is not a moment such as 2030-01-31T00:00:00Z")
    return moment.timestamp()
