"""Settings: complete or refused; flags, environment and documentation cannot part from them."""

from __future__ import annotations

import dataclasses

import click
import pytest

from saxgw import cli
from saxgw.settings import InvalidSetting, Settings, environment_variable, flag


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"http_port": 65536}, "--http-port must be between 0 and 65535, got 65536"),
        ({"max_calls": 0}, "--max-calls must be at least 1, got 0"),
        ({"max_in_flight": 2, "min_in_flight": 3}, "--max-in-flight must be at least --min-in-flight, which is 3"),
        (
            {"max_request_bytes": 2**30, "max_held_request_bytes": 2**20},
            "--max-held-request-bytes must be at least --max-request-bytes, which is 1073741824, got 1048576",
        ),
        ({"replica_wait": -0.5}, "--replica-wait must be at least 0, got -0.5"),
        ({"generate_timeout": float("inf")}, "--generate-timeout must be at least 0.001, got inf"),
        ({"sax_root": ""}, "--sax-root is empty"),
        ({"log_level": "loud"}, "--log-level must be one of"),
        ({"admin_port": 70000}, "--admin-port must be between 0 and 65535, got 70000"),
        ({"admin_host": ""}, "--admin-host is empty"),
        ({"jwt_jwks": "/srv/jwks"}, "--jwt-jwks needs --jwt-issuer and --jwt-audience"),
        ({"jwt_issuer": "https://issuer.test"}, "--jwt-issuer and --jwt-audience need --jwt-jwks"),
        (
            {"jwt_jwks": "http://issuer.test/jwks", "jwt_issuer": "a", "jwt_audience": "b"},
            "--jwt-jwks must be a file or an https URL",
        ),
        ({"allow_checkpoint": ("a**b",)}, '--allow-checkpoint: "a\\*\\*b" is not a pattern'),
    ],
)
def test_invalid(changed: dict[str, object], said: str) -> None:
    """The message quotes the flag and the value."""
    with pytest.raises(InvalidSetting, match=said):
        Settings(**{"sax_root": "/srv/sax", **changed})  # type: ignore[arg-type]  # one of them is wrong on purpose


def test_frozen() -> None:
    """Settings do not change."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings(sax_root="/srv/sax").http_port = 1  # type: ignore[misc]  # that is the point


@pytest.mark.parametrize("command", ["serve", "dev"])
def test_every_setting_is_a_flag_and_a_variable(command: str) -> None:
    """`serve` has an option for each setting, `dev` for all but those that it decides itself."""
    options = {o.name: o for o in cli.main.commands[command].params if isinstance(o, click.Option)}
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    own = {"config", "print_config"} | {"serve": set(), "dev": {"root", "model_servers", "google"}}[command]
    decided = {"serve": set(), "dev": {"sax_root", "host", "admin_host", "workers"}}[command]
    assert set(options) - own == set(fields) - decided
    for name in set(options) - own:
        assert options[name].opts == [flag(name)]
        assert environment_variable(name) in (options[name].envvar or [])
        assert options[name].help
