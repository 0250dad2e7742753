"""What `voxroute serve` takes as --engine."""

import pytest
from pydantic import ValidationError

from voxroute_orchestrator.server_settings import JobServerSettings


def test_the_scheme_of_the_first_server_is_that_of_all() -> None:
    """As other clients of such clusters take them."""
    settings = JobServerSettings(engine="nats://a:4222,b.example:4222, [::1]:4222")  # type: ignore[arg-type]
    assert settings.engine == ["nats://a:4222", "nats://b.example:4222", "nats://[::1]:4222"]
    assert JobServerSettings().engine == []


@pytest.mark.parametrize("address", ["a:4222", "nats://a", "http://a:4222", "nats://a:4222/x"])
def test_what_is_no_address_is_refused(address: str) -> None:
    """With how one is written."""
    with pytest.raises(ValidationError, match="write nats://HOST:PORT"):
        JobServerSettings(engine=address)  # type: ignore[arg-type]


def test_jobs_are_kept_by_three_servers_where_several_are_named() -> None:
    """Unless it is said how many."""
    for engine, asked, kept in (
        ("nats://a:1", 0, 1),
        ("nats://a:1,b:1", 0, 3),
        ("nats://a:1,b:1,c:1", 1, 1),
        ("nats://a:1", 3, 3),
    ):
        settings = JobServerSettings(engine=engine, engine_replicas=asked)  # type: ignore[arg-type]
        assert settings.replicas == kept


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    """It would be in the process list; a file takes it."""
    with pytest.raises(ValidationError, match="--engine-credentials") as error:
        JobServerSettings(engine="nats://jobs:hunter2@a:4222")  # type: ignore[arg-type]
    assert "hunter2" not in str(error.value)


def test_addresses_with_and_without_tls_are_not_mixed() -> None:
    """One would be the way around the other."""
    with pytest.raises(ValidationError, match="all of them alike"):
        JobServerSettings(engine="tls://a:4222,nats://b:4222")  # type: ignore[arg-type]


def test_half_a_pair_of_files_is_refused() -> None:
    """As is what nobody would use."""
    with pytest.raises(ValidationError, match="go together"):
        JobServerSettings(engine="tls://a:1", engine_tls_cert="x")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="are for --engine"):
        JobServerSettings(engine_credentials="x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "where",
    [
        "folder", "server", "s3://bucket", "s3://bucket/", "s3://my.bucket/a/b-1",
        "s3://bucket/a?endpoint=https://s3.example:9000&region=eu",
    ],
)  # fmt: skip
def test_files_are_in_a_folder_on_the_server_or_in_a_bucket(where: str) -> None:
    """All but the first need a server for the jobs."""
    settings = JobServerSettings(engine="nats://a:1", engine_files=where)  # type: ignore[arg-type]
    assert settings.copies == (where != "folder")
    if settings.copies:
        with pytest.raises(ValidationError, match="--engine-files is for --engine"):
            JobServerSettings(engine_files=where)


@pytest.mark.parametrize(
    "where",
    [
        "bucket", "https://bucket", "s3://", "s3://B", "s3://bucket/../a", "s3://bucket/a//b",
        "s3://bucket/a#b", "s3://bucket?endpoint=s3.example", "s3://bucket?secret=x",
        "s3://bucket/" + 200 * "a",
    ],
)  # fmt: skip
def test_what_is_no_bucket_is_refused(where: str) -> None:
    """With how one is written."""
    with pytest.raises(ValidationError, match="s3://BUCKET/PREFIX"):
        JobServerSettings(engine="nats://a:1", engine_files=where)  # type: ignore[arg-type]


def test_a_secret_in_the_address_of_a_bucket_is_refused_and_not_repeated() -> None:
    """It would be in the process list; AWS's variables and files take it."""
    for where in ("s3://key:hunter2@bucket/a", "s3://bucket?endpoint=https://key:hunter2@host"):
        with pytest.raises(ValidationError, match="AWS_ACCESS_KEY_ID") as error:
            JobServerSettings(engine="nats://a:1", engine_files=where)  # type: ignore[arg-type]
        assert "hunter2" not in str(error.value)
