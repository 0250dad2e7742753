"""What can be set: flags beat VOXROUTE_* variables, which beat voxroute.yaml."""

from pathlib import Path
from typing import Annotated, Any

import platformdirs
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from voxroute_orchestrator.errors import UsageError
from voxroute_orchestrator.subtitles.rules import CueRules

CONFIG_NAME = "voxroute.yaml"
BUNDLED_ASR = "asr-tiny-hi-en"
BUNDLED_TRANSLATE = "translate-tiny-hi-en"
BUNDLED_ALIGN = "align-tiny-hi-en"
BUNDLED_ALIGN_LANGUAGES = ("en", "hi")


class Settings(BaseSettings):
    """Everything that can be set for the command."""

    model_config = SettingsConfigDict(
        env_prefix="VOXROUTE_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    config: Path | None = None
    """The settings file; else voxroute.yaml here, else in the user's configuration folder."""
    asr_endpoints: Annotated[tuple[str, ...], NoDecode] = ()
    """Speech services, host:port, grpcs://host:port (TLS) or unix:/path, with commas between;
    none: start a local one."""
    translate_endpoints: Annotated[tuple[str, ...], NoDecode] = ()
    """Translation services; none: start a local one."""
    jobs_endpoint: str = ""
    """The job service that the gateway offers over HTTP, written like them."""
    share: bool = True
    """Whether a recording is shared among all running services that have the model. Off: the best
    one does all of it."""
    models_dir: Path | None = None
    """The folder of the bundled models; else models/ of the source tree."""
    model_cache_dir: Path = Field(default_factory=lambda: platformdirs.user_cache_path("voxroute"))
    """Where the services keep converted models."""
    work_dir: Path = Path("out")
    """Where job folders and what is known of this host are kept."""
    diarization_model: str = ""
    """The pyannote pipeline that a local speech service tells speakers apart with: a directory, or
    a hub id, which is gated and needs HF_TOKEN. None: it tells none apart."""
    offline: bool = False
    """No downloads; the bundled models are used where no model is named."""
    startup_timeout_s: float = Field(default=1800.0, gt=0)
    """How long a local service may take until it serves. Too low: the first download or
    conversion of a large model is cut off. Too high: a hung start is noticed late."""
    local_idle_s: float = Field(default=300.0, ge=0)
    """How long a service that was started here stays for the next command, unused. 0: it ends with
    the command. Too low: every command loads the models anew. Too high: they keep memory from
    others."""
    stall_timeout_s: float = Field(default=600.0, gt=0)
    """How long a service may send nothing while it has work. Too low: a slow window or a model
    that loads is taken for a hang. Too high: a hang is noticed late."""
    retry_s: float = Field(default=120.0, ge=0)
    """How long a service that is away or full is tried again without progress, and how long a job
    of the job service waits for services that are away when it begins. Too low: a restart or a
    busy minute ends the job. Too high: a service that is gone is noticed late."""
    deadline_factor: float = Field(default=20.0, gt=0)
    """Deadline of a call for each second of media. Too low: slow hosts cannot finish."""
    keepalive_s: float = Field(default=30.0, ge=5)
    """How often a silent connection is probed. Too low: services answer "too many pings"."""
    tls_ca: Path | None = None
    """CAs of the services, PEM; turns TLS on for addresses without a scheme. None: those that grpc
    brings along, for grpcs:// addresses."""
    tls_cert: Path | None = None
    """The certificate of this client, PEM, for services that ask for one."""
    tls_key: Path | None = None
    """Its private key, PEM, without a passphrase."""
    tls_server_name: str = ""
    """The name that services' certificates must have; none: that of the address."""
    token_file: Path | None = None
    """The file that holds the token to send to services."""
    insecure: bool = False
    """Whether the token may go to other machines without TLS."""
    tracing: bool = False
    """Whether jobs are traced with OpenTelemetry, by the services that are started here as well.
    OTEL_EXPORTER_OTLP_ENDPOINT and the other standard variables say where to and how much."""
    log_text: bool = False
    """Whether logs may hold what people say, those of services that are started here as well."""

    subtitles: CueRules = CueRules()
    """What cues may be; VOXROUTE_SUBTITLES__LINE_CHARACTERS and so on as variables."""

    @field_validator("asr_endpoints", "translate_endpoints", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then the settings file."""
        named = init_settings().get("config") or env_settings().get("config")
        path = Path(named) if named else _default_config()
        if path is None:
            return init_settings, env_settings
        if not path.is_file():
            raise UsageError(f"there is no settings file {path}; check --config or VOXROUTE_CONFIG")
        return init_settings, env_settings, _file(settings_cls, path)


def _file(settings_class: type[BaseSettings], path: Path) -> PydanticBaseSettingsSource:
    """The settings file. Raises ValueError where it is no YAML."""
    import yaml  # noqa: PLC0415 - most commands have no such file

    try:
        return YamlConfigSettingsSource(settings_class, yaml_file=path)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _default_config() -> Path | None:
    for folder in (Path(), platformdirs.user_config_path("voxroute")):
        if (folder / CONFIG_NAME).is_file():
            return folder / CONFIG_NAME
    return None


def load(**flags: Any) -> Settings:
    """The settings; a flag that is None, empty or False counts as not given. Raises UsageError."""
    given = {name: value for name, value in flags.items() if value or _is_number(value)}
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors()
        )
        raise UsageError(
            f"a setting is wrong ({problems}); look at the flags, the VOXROUTE_* variables and"
            f" {CONFIG_NAME}"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"the settings file is no mapping in YAML, or cannot be read: {error}"
        ) from error


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def bundled_models(settings: Settings) -> Path | None:
    """The folder that holds the bundled models, or None where there is none."""
    source_tree = Path(__file__).resolve().parents[2] / "models"
    for folder in (settings.models_dir, source_tree):
        if folder is not None and (folder / BUNDLED_ASR).is_dir():
            return folder.resolve()
    return None


def has_bundled_models(settings: Settings) -> bool:
    """Whether speech and translation work with what is bundled."""
    folder = bundled_models(settings)
    return folder is not None and (folder / BUNDLED_TRANSLATE).is_dir()
