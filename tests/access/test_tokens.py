"""Tokens: what they may be signed with, how signing keys come and go, and what is remembered."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import ssl
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
import trustme
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from saxgw.access import signing_keys, tokens
from saxgw.access.keys import digest
from saxgw.access.signing_keys import FetchedKeys, KeySet, read_key_set
from saxgw.access.tokens import Expected, Tokens
from saxgw.devcell import DevCell
from saxgw.gateway import Gateway
from saxgw.rpc.identity import ALL_MODELS, Identity
from saxgw.rpc.status import Code, RpcError
from saxgw.watched import InvalidFile
from tests.access.issuer import AUDIENCE, ISSUER, Issuer
from tests.callers import code_of
from tests.conftest import connected, settings

EXPECTED = Expected(ISSUER, AUDIENCE, 30)


class Known:
    """Signing keys that somebody puts here."""

    def __init__(self, jwks: bytes | None = None) -> None:
        self.value = None if jwks is None else KeySet("here", jwks)


async def identify(of: Tokens, token: str) -> Identity | None:
    found = of.identify(token, digest(token))
    return await found if isinstance(found, Awaitable) else found


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS256", "ES256", "EdDSA"])
async def test_algorithms(algorithm: str) -> None:
    """Asymmetric signatures of all kinds are checked."""
    issuer = Issuer(algorithm)
    of = Tokens(Known(issuer.jwks()), EXPECTED)
    assert await identify(of, issuer.token()) == Identity("jwt:alice", frozenset({"read", "generate", "admin"}))
    assert await identify(of, Issuer(algorithm).token()) is None


async def test_public_key_as_a_secret() -> None:
    """A token whose HMAC has the public key for its secret, which everybody has, is nobody's."""
    issuer = Issuer("RS256")
    for secret in (
        issuer.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        orjson.dumps(RSAAlgorithm.to_jwk(issuer.private.public_key(), as_dict=True)),
    ):
        claims = issuer.token().split(".")[1]
        head = urlsafe_b64encode(orjson.dumps({"alg": "HS256", "kid": issuer.kid})).rstrip(b"=").decode()
        signed = f"{head}.{claims}".encode()
        signature = urlsafe_b64encode(hmac.digest(secret, signed, hashlib.sha256)).rstrip(b"=").decode()
        assert await identify(Tokens(Known(issuer.jwks()), EXPECTED), f"{signed.decode()}.{signature}") is None


def test_set_with_secrets() -> None:
    """Symmetric keys, keys for other uses and weak ones are passed over; a set with no other is refused."""
    shared = {"kty": "oct", "kid": "a", "k": "c2VjcmV0"}
    weak = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True)  # noqa: S505 - for that
    own = orjson.loads(Issuer().jwks())["keys"][0]
    for keys in ([shared], [weak], [{**own, "use": "enc"}], [{**own, "alg": "HS256"}], [{"kty": "?"}], []):
        with pytest.raises(InvalidFile, match="here has no key that can check a token"):
            KeySet("here", orjson.dumps({"keys": keys}))
    assert KeySet("here", orjson.dumps({"keys": [shared, own]})).find(own["kid"])


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"keys": 1}', b'{"keys": [1]}', b'{"keys": [{"kid": []}]}'])
def test_no_set(text: bytes, tmp_path: Path) -> None:
    """What is no JWK set is refused, with its name."""
    (tmp_path / "jwks").write_bytes(text)
    with pytest.raises(InvalidFile, match=str(tmp_path / "jwks")):
        read_key_set(tmp_path / "jwks")


def test_key_id_that_is_no_text() -> None:
    """A set with a key of such an id makes no sense, as other malformed ones; it does not end the following of it."""
    own = orjson.loads(Issuer().jwks())["keys"][0]
    with pytest.raises(InvalidFile, match="here is no JWK set"):
        KeySet("here", orjson.dumps({"keys": [own, {**own, "kid": ["a"]}]}))


async def test_token_without_a_key_id() -> None:
    """It is checked with the only key there is; of two, nobody knows which."""
    issuer = Issuer()
    token = jwt.encode(jwt.decode(issuer.token(), options={"verify_signature": False}), issuer.private, "ES256")
    assert await identify(Tokens(Known(issuer.jwks()), EXPECTED), token) is not None
    issuer.rotate()
    assert await identify(Tokens(Known(issuer.jwks()), EXPECTED), token) is None


async def test_leeway() -> None:
    """A token holds for as long as clocks may differ."""
    issuer = Issuer()
    of = Tokens(Known(issuer.jwks()), Expected(ISSUER, AUDIENCE, 3000))
    now = jwt.decode(issuer.token(), options={"verify_signature": False})["iat"]
    assert await identify(of, issuer.token(exp=now - 2000)) is not None
    assert await identify(of, issuer.token(nbf=now + 2000)) is not None
    assert await identify(of, issuer.token(exp=now - 4000)) is None
    assert await identify(of, issuer.token(nbf=now + 4000)) is None


async def test_claims() -> None:
    """Scopes come from `scope` or `scp`, as a text or an array, and what is not ours among them is nothing."""
    issuer = Issuer()
    of = Tokens(Known(issuer.jwks()), EXPECTED)
    for claims, scopes in (
        ({"scope": "openid generate"}, {"generate"}),
        ({"without": "scope", "scp": ["read", "admin"]}, {"read", "admin"}),
        ({"without": "scope", "scp": "read"}, {"read"}),
        ({"without": "scope"}, set()),
        ({"aud": ["other", AUDIENCE], "scope": ""}, set()),
    ):
        given: dict[str, Any] = claims
        identity = await identify(of, issuer.token(**given))
        assert identity is not None
        assert (set(identity.scopes), identity.models) == (scopes, ALL_MODELS)


async def test_remembered_until_keys_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is checked once; once its key is gone from the set it is nobody's."""
    issuer = Issuer()
    known = Known(issuer.jwks())
    of = Tokens(known, EXPECTED)
    token = issuer.token()
    first = await identify(of, token)
    with monkeypatch.context() as patch:
        patch.delattr(jwt, "decode")
        assert await identify(of, token) is first
    issuer.rotate()
    issuer.forget("key-0")
    known.value = KeySet("here", issuer.jwks())
    assert await identify(of, token) is None
    assert await identify(of, issuer.token()) is not None


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token that was remembered first is forgotten first."""
    monkeypatch.setattr(tokens, "_MAX_REMEMBERED", 2)
    issuer = Issuer()
    of = Tokens(Known(issuer.jwks()), EXPECTED)
    made = [issuer.token(sub=str(number)) for number in range(3)]
    for token in made:
        assert await identify(of, token) is not None
    monkeypatch.delattr(jwt, "decode")
    assert await identify(of, made[2]) is not None
    assert await identify(of, made[1]) is not None
    with pytest.raises(AttributeError):
        await identify(of, made[0])


class Site:
    """Serves an issuer's keys over TLS, and counts how often it is asked."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.asked = 0
        self.status = 200
        self.authority = trustme.CA()
        self.url = ""

    @property
    def trust(self) -> ssl.SSLContext:
        """What believes the site."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    async def answer(self, _: web.BaseRequest) -> web.Response:
        self.asked += 1
        return web.Response(body=self.issuer.jwks(), status=self.status, headers={"Location": self.url})


@asynccontextmanager
async def site(issuer: Issuer) -> AsyncIterator[Site]:
    made = Site(issuer)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.authority.issue_cert("localhost").configure_cert(context)
    server = web.Server(made.answer)
    listener = await asyncio.get_running_loop().create_server(server, "localhost", 0, ssl=context)
    made.url = f"https://localhost:{listener.sockets[0].getsockname()[1]}/jwks"
    try:
        yield made
    finally:
        listener.close()
        await server.shutdown(0)


async def test_fetched() -> None:
    """The first call waits for the keys; a token with a new key has them fetched again, once for all who wait."""
    issuer = Issuer()
    async with site(issuer) as served, FetchedKeys(served.url, trust=served.trust) as keys:
        of = Tokens(keys, EXPECTED, keys.ask)
        assert await identify(of, issuer.token()) is not None
        assert served.asked == 1
        issuer.rotate()
        made = [issuer.token(sub=str(number)) for number in range(20)]
        assert None not in await asyncio.gather(*(identify(of, token) for token in made))
        assert served.asked == 2


async def test_unknown_keys_cannot_be_asked_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tokens have keys that nobody knows, the issuer is asked once in a while."""
    monkeypatch.setattr(signing_keys, "_UNKNOWN_S", 3600.0)
    issuer = Issuer()
    async with site(issuer) as served, FetchedKeys(served.url, trust=served.trust) as keys:
        of = Tokens(keys, EXPECTED, keys.ask)
        for number in range(20):
            assert await identify(of, issuer.token(headers={"kid": f"none-{number}"})) is None
        assert served.asked <= 2
        assert await identify(of, issuer.token()) is not None


@pytest.mark.parametrize("status", [301, 404, 500])
async def test_issuer_away(status: int, caplog: pytest.LogCaptureFixture) -> None:
    """While there are no keys, callers are told to come again; nobody is told to be somebody else."""
    issuer = Issuer()
    async with site(issuer) as served:
        served.status = status
        async with FetchedKeys(served.url, trust=served.trust) as keys:
            of = Tokens(keys, EXPECTED, keys.ask)
            with pytest.raises(RpcError, match="could not get their issuer's keys yet") as caught:
                await identify(of, issuer.token())
            assert caught.value.code is Code.UNAVAILABLE
            assert caught.value.retry_delay_s is not None
    assert f"{served.url} answers {status}" in caplog.text


async def test_issuer_that_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    """Keys come from a site with a certificate that is believed, or not at all."""
    issuer = Issuer()
    async with site(issuer) as served, FetchedKeys(served.url) as keys:
        with pytest.raises(RpcError):
            await identify(Tokens(keys, EXPECTED, keys.ask), issuer.token())
        assert served.asked == 0
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text


async def test_rotation_under_load(cell: DevCell, tmp_path: Path) -> None:
    """Keys in a file change while calls go on: tokens of the new one are taken, those of one that is gone refused."""
    issuer = Issuer()
    file = tmp_path / "jwks.json"
    file.write_bytes(issuer.jwks())
    old = issuer.token()
    gateway = Gateway(
        settings(cell.root, jwt_jwks=str(file), jwt_issuer=ISSUER, jwt_audience=AUDIENCE, log_level="debug")
    )
    async with gateway, asyncio.timeout(60), connected(gateway, "grpc", old) as call:
        assert await code_of(call) == "OK"
        issuer.rotate()
        file.write_bytes(issuer.jwks())
        async with connected(gateway, "documented routes", issuer.token()) as new:
            while await code_of(new) != "OK":
                assert await code_of(call) == "OK"
            issuer.forget("key-0")
            file.write_bytes(issuer.jwks())
            while await code_of(call) != "UNAUTHENTICATED":
                assert await code_of(new) == "OK"


async def test_reasons_are_logged_without_tokens(caplog: pytest.LogCaptureFixture) -> None:
    """Why a token is refused is in the log of those who ask for it; the token is not."""
    issuer = Issuer()
    token = issuer.token(aud="other")
    with caplog.at_level(logging.DEBUG, "saxgw.access"):
        assert await identify(Tokens(Known(issuer.jwks()), EXPECTED), token) is None
    assert "a token is refused: InvalidAudienceError" in caplog.text
    assert token.split(".")[1] not in caplog.text
