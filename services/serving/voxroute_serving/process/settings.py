"""The settings of a service: command-line flags, then VOXROUTE_ variables, then defaults.

A service's `__main__` builds one settings object and passes it down; nothing else reads the
environment. A field `max_message_bytes` is the flag `--max-message-bytes` and the variable
`VOXROUTE_MAX_MESSAGE_BYTES`; a list is written with commas, and a flag may also be repeated.
"""

import difflib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

import platformdirs
from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, CliSuppress, NoDecode, SettingsConfigDict

ENV_PREFIX = "VOXROUTE_"


def _split(value: object) -> object:
    """The parts between commas of a string, or of each string of a list."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Iterable):
        return value
    texts = cast("Iterable[Any]", value)
    return [part.strip() for text in texts for part in str(text).split(",") if part.strip()]


def _host_and_port(address: str) -> str:
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and int(port) <= 65535):  # noqa: PLR2004 - TCP's
        raise ValueError(
            f"{address!r} is no address; write HOST:PORT (0.0.0.0:50051, [::1]:50051; port 0 takes"
            " a free one)"
        )
    if ":" in host and not re.fullmatch(r"\[[0-9a-fA-F:.%\w]+\]", host):
        raise ValueError(f"{address!r}: put an IPv6 address into brackets, as in [::1]:{port}")
    return address


def _listen_address(address: str) -> str:
    if address.startswith("unix:"):
        # unix:/path and unix:///path are the same; grpc takes both
        if not address.removeprefix("unix:").removeprefix("//").startswith("/"):
            raise ValueError(f"{address!r}: the path of a socket is absolute, as in unix:/run/x")
        return "unix:" + address.removeprefix("unix:").removeprefix("//")
    return _host_and_port(address)


def _metrics_address(address: str) -> str:
    return _host_and_port(address) if address else ""


def is_local(address: str) -> bool:
    """Whether only processes of this machine can reach an address: a socket, or loopback.

    A name but "localhost" is not: what it stands for may change.
    """
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]").partition("%")[0].lower()
    if host == "localhost":
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


StringList = Annotated[list[str], NoDecode, BeforeValidator(_split)]
"""A list that is written with commas."""
ListenAddresses = Annotated[
    list[Annotated[str, AfterValidator(_listen_address)]], NoDecode, BeforeValidator(_split)
]
"""HOST:PORT or unix:/PATH, with commas."""
Device = Literal["auto", "cpu", "cuda", "mps"]
MetricsAddress = Annotated[str, AfterValidator(_metrics_address)]
"""HOST:PORT, or nothing."""


def listen_on(port: int) -> Any:
    """The field `listen` of a service, by the port that it has where nobody names one."""
    return Field(
        default=[f"127.0.0.1:{port}"],
        min_length=1,
        description="addresses to serve on: HOST:PORT or unix:/PATH, several with commas; port 0"
        " takes a free one. One that others can reach, such as 0.0.0.0, needs TLS",
    )


def metrics_on(port: int) -> Any:
    """The field `metrics_listen` of a service, likewise."""
    return Field(
        default=f"127.0.0.1:{port}",
        description="HOST:PORT of the Prometheus endpoint /metrics, with TLS where the service has"
        " it; empty for none",
    )


class LogSettings(BaseSettings):
    """What every process takes: how it tells what it does."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        protected_namespaces=(),
        hide_input_in_errors=True,
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least important log lines to write"
    )
    log_format: Literal["json", "console"] = Field(
        default="json", description="json for machines, console for people; both go to stderr"
    )
    log_text: bool = Field(
        default=False,
        description="whether the log may hold what people say and its translation, in debug lines"
        " and in messages of exceptions. To look for a fault, with recordings that may be read",
    )
    tracing: bool = Field(
        default=False,
        description="whether calls are traced with OpenTelemetry. Its standard variables say where"
        " to (OTEL_EXPORTER_OTLP_ENDPOINT, by OTLP over gRPC) and how much (OTEL_TRACES_SAMPLER)",
    )


class ProcessSettings(LogSettings):
    """What every process that stays takes. Each has a subclass with its own ports."""

    metrics_listen: MetricsAddress = metrics_on(9150)
    tls_cert: Path | None = Field(
        default=None,
        description="the service's certificate, PEM, with the ones between it and its CA; turns"
        " TLS on for every TCP address. Read again when it changes",
    )
    tls_key: Path | None = Field(
        default=None, description="the private key of the certificate, PEM, without a passphrase"
    )
    tls_client_ca: Path | None = Field(
        default=None,
        description="CAs of clients, PEM; a client without a certificate of theirs is refused",
    )
    insecure: bool = Field(
        default=False,
        description="whether an address that others can reach may be served without TLS: what is"
        " said, and tokens, can then be read on the way. For networks that are encrypted"
        " themselves, and behind proxies",
    )

    @model_validator(mode="after")
    def _protected(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key go together; one of them is missing")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("--tls-client-ca needs TLS; give --tls-cert and --tls-key too")
        if self.tls_cert is not None or self.insecure:
            return self
        exposed = [address for address in self.addresses if not is_local(address)]
        if exposed:
            raise ValueError(
                f"{', '.join(exposed)} can be reached by others, and what they say would not be"
                " encrypted; give --tls-cert and --tls-key, or listen on 127.0.0.1 or a unix:/PATH,"
                " or say --insecure where the network is trusted"
            )
        return self

    @property
    def addresses(self) -> list[str]:
        """Where others may connect to it."""
        return [self.metrics_listen] if self.metrics_listen else []


class ListeningSettings(ProcessSettings):
    """What is taken on top where calls are taken."""

    listen: ListenAddresses = listen_on(50050)
    client_tokens: Path | None = Field(
        default=None,
        description="file of the tokens that clients must send, one a line, as NAME:TOKEN; read"
        " again when it changes. Without it whoever reaches the service may use it",
    )
    idle_timeout_s: float = Field(
        default=900.0,
        ge=0,
        description="seconds that a client may owe, by neither sending nor reading enough while"
        " the service waits for it; then its call ends. 0 for any time. Too low ends calls whose"
        " source pauses, too high keeps the places of clients that hang",
    )
    min_bytes_per_s: int = Field(
        default=64,
        ge=0,
        description="bytes of audio, of a file or of answers that a client has to send or read for"
        " each second that the service waits for it; 0 lets any piece count. Too high ends live"
        " speech in a lean codec (it has 500 and more), too low keeps the places of clients that"
        " trickle",
    )
    drain_s: float = Field(
        default=30.0,
        ge=0,
        description="seconds that open calls get to finish after SIGTERM. Too low cuts long"
        " recordings, too high makes a restart slow; stay below the supervisor's own limit",
    )
    offline: bool = Field(
        default=False, description="whether models come from this machine only, never from a hub"
    )

    @property
    def addresses(self) -> list[str]:
        """As ProcessSettings."""
        return [*self.listen, *super().addresses]


class ServerSettings(ListeningSettings):
    """What is taken on top where gRPC is served."""

    max_concurrent_calls: int = Field(
        default=16,
        ge=1,
        description="calls at once, running and waiting; one more is refused. Too low leaves the"
        " device idle between calls, too high makes every call slow",
    )
    max_calls_per_client: int = Field(
        default=0,
        ge=0,
        description="calls at once of one client (its token's name, else its certificate's, else"
        " its address); 0 for no limit but that of all: one client may then have every place, and"
        " gives back what is more than an equal share when another needs it. Too low stops a"
        " client that works on several recordings",
    )
    max_queued_work: int = Field(
        default=0,
        ge=0,
        description="pieces of work (windows, sentences) that may wait for the device when a call"
        " begins; beyond it new calls are refused. 0 for what max_concurrent_calls allows. Too low"
        " refuses what would soon have been done, too high makes every call slow",
    )
    max_message_bytes: int = Field(
        default=4 * 1024 * 1024,
        ge=64 * 1024,
        le=2**31 - 1,
        description="largest single request message, bytes. Too low refuses large audio chunks,"
        " too high lets a few calls fill the memory",
    )
    keepalive_s: float = Field(
        default=30.0,
        ge=1,
        description="seconds without a sign of life after which a client is asked for one; a dead"
        " one is dropped 10 s later. Too high keeps the places of dead clients taken",
    )
    reflection: bool = Field(
        default=True, description="whether clients can ask for the services and their messages"
    )


class ServiceSettings(ServerSettings):
    """What is taken on top where models run."""

    model_cache_dir: Path = Field(
        default_factory=lambda: platformdirs.user_cache_path("voxroute"),
        description="directory of converted models; may grow by gigabytes for each model",
    )
    device: Device = Field(default="auto", description="the hardware that runs the models")
    compute_type: str = Field(
        default="auto",
        description="numeric type of the models (int8, float16, float32, ...); auto takes the"
        " fastest that the device runs well",
    )
    max_loaded_models: int = Field(
        default=2,
        ge=1,
        description="models in the device's memory at once. Too low reloads models again and"
        " again, too high runs out of memory",
    )
    max_model_bytes: ByteSize = Field(
        default=ByteSize(0),
        ge=0,
        description="what the loaded models may take of the device's memory in all, such as 12GB;"
        " 0 for any amount. The least recently used ones without a call make room for another; one"
        " that is larger alone is refused. Too low reloads models again and again, too high runs"
        " out of memory",
    )
    model_idle_ttl_s: float = Field(
        default=0.0,
        ge=0,
        description="seconds without a call after which a model is freed; the next call loads it"
        " again. 0 for never. Too low makes calls wait for loads, too high keeps memory from"
        " others",
    )
    hf_token: CliSuppress[SecretStr | None] = Field(
        default=None,
        validation_alias="HF_TOKEN",
        description="the hub's access token, for gated models; only as a variable, because other"
        " users can read a process's flags",
    )

    @property
    def hub_token(self) -> str | None:
        """The hub's access token in the clear, or None."""
        return self.hf_token.get_secret_value() if self.hf_token is not None else None


class AsrSettings(ServiceSettings):
    """What a speech service takes on top, whatever its engine."""

    model: str = Field(
        default="",
        description="the model of requests that name none: a well-known name (large-v3), a hub"
        " id, or a local directory; empty for the engine's default",
    )
    preload_models: StringList = Field(
        default=[],
        description="further models to load before the service says that it serves, with commas;"
        " they make room for others like any model. Too many make the start slow",
    )
    max_audio_s: float = Field(
        default=4 * 3600.0,
        gt=0,
        description="longest recording, seconds; a longer one is refused",
    )
    max_concurrent_calls: int = Field(
        default=64,
        ge=1,
        description="calls at once, running and waiting; one more is refused. Clients send a film"
        " in parts, several calls at once. Too low leaves the device idle, too high lets the calls"
        " fill the memory",
    )
    max_live_streams: int = Field(
        default=64,
        ge=0,
        description="live streams at once, besides the calls; fewer where the device could not"
        " renew the text of one more every three seconds; 0 for none",
    )
    max_batch: int = Field(
        default=0,
        ge=0,
        description="windows of 30 s in one batch of the device; 0 lets the engine choose. Too low"
        " wastes a GPU, too high runs out of its memory",
    )


def misspelt_variables(
    settings_class: type[LogSettings], environment: Mapping[str, str]
) -> list[tuple[str, str]]:
    """(name, likely meaning) of variables that look like settings and are none.

    pydantic-settings ignores an unknown variable even where extra fields are forbidden. Only near
    misses count: variables of other parts of the product share the prefix.
    """
    known = {f"{ENV_PREFIX}{name.upper()}" for name in settings_class.model_fields}
    found: list[tuple[str, str]] = []
    for name in environment:
        if name.upper().startswith(ENV_PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.85)
            found += [(name, near[0])] if near else []
    return found
