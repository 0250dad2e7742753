"""Who a service is at S3, and where that is: by the variables and files of AWS's own tools."""

import configparser
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

from voxroute_orchestrator.jobs.errors import StoreError

if TYPE_CHECKING:
    from obstore.store import S3Credential

_REGION = "us-east-1"  # that of servers which have none
_FRESH_S = 600.0  # after which a file with credentials is read again, if not before
# what obstore finds by itself, and what goes before a file there, too
_OTHERS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


@dataclass(frozen=True, slots=True)
class Account:
    """What a client of S3 needs but for the bucket."""

    endpoint: str
    """A URL; "" for AWS."""
    region: str
    ca: bytes | None = None
    """PEM, beside the host's."""
    credentials: "Callable[[], S3Credential] | None" = field(default=None, repr=False)
    """Reads them from the file; None where the client finds them."""

    @classmethod
    def of(cls, asked: Mapping[str, str]) -> Self:
        """As the URL has `asked` for, else the environment says, else the files that it names.

        Raises StoreError with the variable whose file will not do.
        """
        profile = os.environ.get("AWS_PROFILE", "")
        config = _section(
            "AWS_CONFIG_FILE", "config", f"profile {profile}" if profile else "default"
        )
        endpoint = (
            asked.get("endpoint")
            or os.environ.get("AWS_ENDPOINT_URL_S3")
            or os.environ.get("AWS_ENDPOINT_URL")
            or config.get("endpoint_url", "")
        )
        if "@" in endpoint:  # which is not repeated: it may hold a password
            raise StoreError("AWS_ENDPOINT_URL tells nobody's name; AWS_ACCESS_KEY_ID does")
        region = (
            asked.get("region")
            or os.environ.get("AWS_REGION")
            or os.environ.get("AWS_DEFAULT_REGION")
            or config.get("region", _REGION)
        )
        ca = os.environ.get("AWS_CA_BUNDLE")
        try:
            pem = Path(ca).read_bytes() if ca else None
        except OSError as error:
            raise StoreError(f"AWS_CA_BUNDLE {ca} cannot be read: {error}") from error
        return cls(endpoint, region, pem, _credentials(profile))


def _credentials(profile: str) -> "Callable[[], S3Credential] | None":
    """Raises StoreError where a file was named that has none."""

    def read() -> "S3Credential":
        found = _section("AWS_SHARED_CREDENTIALS_FILE", "credentials", profile or "default")
        if not {"aws_access_key_id", "aws_secret_access_key"} <= set(found):
            raise StoreError(
                f"the credentials file of AWS has no aws_access_key_id and aws_secret_access_key"
                f" for profile {profile or 'default'}; AWS_SHARED_CREDENTIALS_FILE names the file,"
                " AWS_PROFILE the profile"
            )
        return {
            "access_key_id": found["aws_access_key_id"],
            "secret_access_key": found["aws_secret_access_key"],
            "token": found.get("aws_session_token"),
            "expires_at": datetime.now(UTC) + timedelta(seconds=_FRESH_S),
        }

    if any(os.environ.get(name) for name in _OTHERS):
        return None
    if profile or os.environ.get("AWS_SHARED_CREDENTIALS_FILE"):
        read()  # which is told at the start
        return read
    return read if _section("AWS_SHARED_CREDENTIALS_FILE", "credentials", "default") else None


def _section(variable: str, name: str, section: str) -> Mapping[str, str]:
    """What a file of AWS says in a section. Raises StoreError."""
    named = os.environ.get(variable)
    parser = configparser.RawConfigParser()
    try:
        path = Path(named) if named else Path.home() / ".aws" / name
        if named or path.exists():
            with path.open(encoding="utf-8") as file:
                parser.read_file(file)
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        raise StoreError(f"{variable} {named} cannot be read: {error}") from error
    except configparser.Error as error:  # whose text may hold a line of the file
        raise StoreError(f"{variable} {named} is no file of AWS's form") from error
    return dict(parser[section]) if parser.has_section(section) else {}
