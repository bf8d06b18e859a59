"""An issuer of tokens: it has keys, publishes them, and signs what it is told to."""

from __future__ import annotations

import time
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://issuer.test"
AUDIENCE = "saxgw"


class Issuer:
    """Signs with the key that was made last."""

    def __init__(self, algorithm: str = "ES256") -> None:
        self._keys: dict[str, Any] = {}
        self._algorithm = algorithm
        self.rotate()

    def rotate(self) -> None:
        """Makes a new key, which it signs with from now on; the others stay in the set."""
        self.kid = f"key-{len(self._keys)}"
        private: Any
        algorithm: Any
        match self._algorithm[:2]:
            case "ES":
                private, algorithm = ec.generate_private_key(ec.SECP256R1()), ECAlgorithm
            case "Ed":
                private, algorithm = ed25519.Ed25519PrivateKey.generate(), OKPAlgorithm
            case _:
                private, algorithm = rsa.generate_private_key(65537, 2048), RSAAlgorithm
        self.private = private
        self._keys[self.kid] = algorithm.to_jwk(private.public_key(), as_dict=True)

    def forget(self, kid: str) -> None:
        """Takes a key out of the set."""
        del self._keys[kid]

    def jwks(self) -> bytes:
        """The set of public keys."""
        return orjson.dumps({"keys": [{**key, "kid": kid, "use": "sig"} for kid, key in self._keys.items()]})

    def token(self, *, headers: dict[str, Any] | None = None, without: str = "", **claims: Any) -> str:
        """A token that is good for everything for a minute, but for what is said otherwise."""
        now = int(time.time())
        given = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "alice",
            "iat": now,
            "exp": now + 60,
            "scope": "read generate admin",
            **claims,
        }
        given.pop(without, None)
        return jwt.encode(given, self.private, self._algorithm, headers={"kid": self.kid, **(headers or {})})
