"""How NATS servers are reached: where they are, with which certificates, and as whom."""

import importlib.util
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

from voxroute_orchestrator.server_settings import EngineSettings
from voxroute_serving.errors import InvalidInputError

_TLS = "tls://"
_JWT = "-----BEGIN NATS USER JWT-----"


@dataclass(frozen=True, slots=True)
class Access:
    """What a connection needs; files were read."""

    servers: Sequence[str]
    """nats://HOST:PORT, or tls://HOST:PORT."""
    tls: ssl.SSLContext | None = None
    """None to speak in the clear."""
    identity: Mapping[str, str] = field(default_factory=dict[str, str])
    """Who the client is, in the words of nats-py's `connect`."""
    renew: "Callable[[], Access] | None" = None
    """Reads the files again; None where there are none. Raises InvalidInputError."""

    @classmethod
    def of(cls, settings: EngineSettings) -> Self:
        """As the flags of a process say.

        Raises InvalidInputError as `read`, and where what is needed to connect is not installed.
        """
        if importlib.util.find_spec("nats") is None:
            raise InvalidInputError(
                "--engine needs nats-py; `pip install 'voxroute-orchestrator[fleet]'` adds it"
            )
        return cls.read(
            settings.engine,
            ca=settings.engine_tls_ca,
            cert=settings.engine_tls_cert,
            key=settings.engine_tls_key,
            credentials=settings.engine_credentials,
        )

    @classmethod
    def read(
        cls,
        servers: Sequence[str],
        *,
        ca: Path | None = None,
        cert: Path | None = None,
        key: Path | None = None,
        credentials: Path | None = None,
    ) -> Self:
        """Reads the files, PEM but for the credentials; TLS where an address or a CA asks for it.

        Raises InvalidInputError with the flag whose file will not do.
        """
        tls = None
        if ca or cert or any(server.startswith(_TLS) for server in servers):
            try:
                tls = ssl.create_default_context(cafile=ca)
            except (OSError, ValueError) as error:
                raise InvalidInputError(f"--engine-tls-ca {ca} cannot be used: {error}") from error
            try:
                if cert:
                    tls.load_cert_chain(cert, key)
            except (OSError, ValueError) as error:
                raise InvalidInputError(
                    f"--engine-tls-cert {cert} and --engine-tls-key {key} cannot be used: {error}"
                ) from error
        again = partial(cls.read, servers, ca=ca, cert=cert, key=key, credentials=credentials)
        return cls(servers, tls, _identity(credentials) if credentials else {}, again)


def _identity(path: Path) -> dict[str, str]:
    """Who a file says that the client is. Raises InvalidInputError, which tells nothing of it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"--engine-credentials {path} cannot be read: {error}") from error
    if _JWT in text:
        return {"user_credentials": str(path)}
    lines = (line.strip() for line in text.splitlines())
    line = next((line for line in lines if line and not line.startswith("#")), "")
    user, colon, password = line.partition(":")
    if colon and user and password:
        return {"user": user, "password": password}
    if line.startswith("SU"):
        return {"nkeys_seed_str": line}
    raise InvalidInputError(
        f"--engine-credentials {path} holds neither USER:PASSWORD, nor the seed of an NKey (SU...),"
        " nor a credentials file of NATS"
    )
