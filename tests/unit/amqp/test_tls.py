"""TLS settings: the certificate is verified unless a setting says otherwise."""

from __future__ import annotations

import logging
import ssl

import pytest

from turbo.amqp.tls import TlsOptions, ssl_context, tls_options
from turbo.amqp.url import parameters, parse_broker_url
from turbo.exceptions import ImproperlyConfigured

pytestmark = pytest.mark.row("WP28")


def test_amqps_verifies_peer_and_name_with_tls_1_2_at_least() -> None:
    found = parameters(parse_broker_url("amqps://broker.example.org/v")).ssl_options
    assert found is not None
    assert found.server_hostname == "broker.example.org"
    assert found.context.verify_mode == ssl.CERT_REQUIRED
    assert found.context.check_hostname
    assert found.context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("value", [None, False, {}, 0])
def test_off(value: object) -> None:
    assert tls_options(value) is None


def test_true_is_the_verified_default() -> None:
    assert tls_options(True) == TlsOptions()


def test_py_amqp_and_prefixed_names() -> None:
    plain = tls_options({"ca_certs": "/ca", "certfile": "/c", "keyfile": "/k", "cert_reqs": ssl.CERT_REQUIRED})
    assert plain == TlsOptions("/ca", "/c", "/k")
    prefixed = tls_options({"ssl_ca_certs": "/ca", "ssl_cert_reqs": "required", "ssl_version": 5})
    assert prefixed == TlsOptions("/ca")


def test_without_verification_only_when_said_and_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    options = tls_options({"cert_reqs": "CERT_NONE"})
    assert options is not None
    with caplog.at_level(logging.WARNING):
        context = ssl_context(options)
    assert context.verify_mode == ssl.CERT_NONE
    assert "without verifying" in caplog.text


@pytest.mark.parametrize("value", [{"ca_cert": "/ca"}, {"cert_reqs": "maybe"}, {"cert_reqs": 1.5}, "yes"])
def test_mistakes_are_refused(value: object) -> None:
    with pytest.raises(ImproperlyConfigured):
        tls_options(value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ImproperlyConfigured, match="/nowhere/ca"):
        ssl_context(TlsOptions(ca_certs="/nowhere/ca.pem"))
