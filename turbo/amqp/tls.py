"""Builds the TLS contexts for broker connections.

They verify the broker's certificate unless a setting disables that. Used by ``amqp.url`` for pika and by
``amqp.client.connection``, in clients and in the master. Building a context reads files and takes tens of milliseconds,
so the master does it before its loop runs. It must never accept an unverified peer without a warning.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    import pika

logger = logging.getLogger("turbo.amqp.tls")

_KNOWN = frozenset(
    {"ca_certs", "certfile", "keyfile", "keyfile_password", "cert_reqs", "server_hostname", "check_hostname"}
    | {"ciphers", "ssl_version"}
)
_REQS = {
    "cert_required": ssl.CERT_REQUIRED,
    "required": ssl.CERT_REQUIRED,
    "cert_optional": ssl.CERT_OPTIONAL,
    "optional": ssl.CERT_OPTIONAL,
    "cert_none": ssl.CERT_NONE,
    "none": ssl.CERT_NONE,
}


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """The options of ``broker_use_ssl``.

    Paths name PEM files. The defaults verify the certificate and the host name.
    """

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    keyfile_password: str | None = None
    cert_reqs: ssl.VerifyMode = ssl.CERT_REQUIRED
    check_hostname: bool = True
    server_hostname: str | None = None
    ciphers: str | None = None


def tls_options(value: object) -> TlsOptions | None:
    """Read ``broker_use_ssl``: false is None, True the defaults, else a mapping.

    The options are those of py-amqp, with or without the prefix ``ssl_``. Raises ``ImproperlyConfigured``, which names
    an unknown option.
    """
    if not value:
        return None
    if value is True:
        return TlsOptions()
    if not isinstance(value, Mapping):
        raise ImproperlyConfigured(f"broker_use_ssl must be a bool or a mapping, not {type(value).__name__}")
    given = {str(key).removeprefix("ssl_"): item for key, item in value.items()}
    if "version" in given:
        given["ssl_version"] = given.pop("version")
    unknown = sorted(set(given) - _KNOWN)
    if unknown:
        raise ImproperlyConfigured(f"broker_use_ssl: unknown option {unknown[0]!r}")
    # py-amqp's ssl_version selects one protocol version; turbo always negotiates the best one, at least TLS 1.2.
    given.pop("ssl_version", None)
    given["cert_reqs"] = _verify_mode(given.get("cert_reqs"))
    return TlsOptions(**given)


def _verify_mode(value: object) -> ssl.VerifyMode:
    if value is None:
        return ssl.CERT_REQUIRED
    if isinstance(value, str):
        mode = _REQS.get(value.lower())
        if mode is None:
            raise ImproperlyConfigured(f"broker_use_ssl: cert_reqs {value!r} is not one of {sorted(_REQS)}")
        return mode
    if isinstance(value, int):
        return ssl.VerifyMode(value)
    raise ImproperlyConfigured(f"broker_use_ssl: cert_reqs {value!r} is not supported")


def ssl_context(options: TlsOptions) -> ssl.SSLContext:
    """Return a client context for TLS 1.2 or newer.

    Raises ``ImproperlyConfigured``, which names the files, if one does not load.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if options.cert_reqs == ssl.CERT_NONE:
        logger.warning(
            "TLS to the broker without verifying its certificate (cert_reqs=CERT_NONE): "
            "anyone on the network path can read and change messages"
        )
    context.check_hostname = options.check_hostname and options.cert_reqs != ssl.CERT_NONE
    context.verify_mode = options.cert_reqs
    try:
        if options.ca_certs:
            context.load_verify_locations(options.ca_certs)
        elif options.cert_reqs != ssl.CERT_NONE:
            context.load_default_certs()
        if options.certfile:
            context.load_cert_chain(options.certfile, options.keyfile, options.keyfile_password)
        if options.ciphers:
            context.set_ciphers(options.ciphers)
    except (OSError, ssl.SSLError) as error:
        files = [name for name in (options.ca_certs, options.certfile, options.keyfile) if name]
        raise ImproperlyConfigured(f"cannot use the TLS files for the broker ({', '.join(files)}): {error}") from error
    return context


def ssl_options(host: str, options: TlsOptions) -> pika.SSLOptions:
    """Return pika's TLS options for ``host``, whose name is sent (SNI) and verified."""
    import pika  # pika costs a program that only sends tasks 60 ms of start-up

    return pika.SSLOptions(ssl_context(options), options.server_hostname or host)
