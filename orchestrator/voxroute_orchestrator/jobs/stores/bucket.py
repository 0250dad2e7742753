"""The files of jobs in a bucket of S3: uploads, results, revisions, sounds.

    <prefix>/voxroute.json                         a random id: which bucket it is
    <prefix>/parts/<id>/<place>/<name>/<by>-<n>    the bytes, 8 MiB an object; the name in base64
    <prefix>/files/<id>/<place>/<name>             written last, once: bytes, SHA-256, the parts

Nothing is ever written over: a record is put on condition that there is none (`If-None-Match: *`),
and parts have the name of their writer. There are no multipart uploads, so that a listing shows all
that a killed service has left; `sweep` removes it after a day.
"""

import asyncio
import contextlib
import itertools
import json
import random
import re
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qs, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from voxroute_orchestrator.jetstream.link import PATIENCE_S, START_S
from voxroute_orchestrator.jobs.errors import DiskFullError, StoreBusyError, StoreError
from voxroute_orchestrator.jobs.stores.aws import Account
from voxroute_orchestrator.jobs.stores.file_store import ThereError
from voxroute_orchestrator.jobs.stores.parts import (
    ABANDONED_S,
    FileName,
    Kept,
    fetch_parts,
    name_of,
    send_parts,
)
from voxroute_serving.errors import ServingError
from voxroute_serving.telemetry.logs import get_logger

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config

T = TypeVar("T")

_PART_BYTES = 8 << 20  # four are in memory; a film of 2 GB has some 250
_PART_S = 60.0  # for one part: four at once need 4.5 Mbit/s
_CONNECT_S = 5.0
_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0  # before what failed is tried again; twice as long each time
_MARKER = "voxroute.json"
_NOBODY = ""
_PROBE = FileName("probe", "start", "probe")

_CODE = re.compile(r"<Code>(\w+)</Code>|\(code: (\w+)\)")
_STATUS = re.compile(r"status code: (\d{3})")
_NO_CREDENTIALS = re.compile(r"/latest/(api|meta-data)/")  # where AWS's own machines have them
_NETWORK = "HTTP error: "  # of the client, without a status
_FULL = {"XMinioStorageFull", "QuotaExceeded", "InsufficientStorage", "StorageFull"}
_FULL_STATUS = 507
_THROTTLED = {"SlowDown", "RequestLimitExceeded", "TooManyRequests"}
_AGAIN = {408, 409, 425, 429}
_SERVERS_FAULT = 500
_DENIED = (
    "does not let the service's credentials do what is needed: s3:GetObject, s3:PutObject,"
    " s3:DeleteObject and s3:ListBucket"
)
_UNKNOWN = "does not know the service's credentials, or not any more"
_NONE = (
    "cannot be asked without credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or"
    " AWS_SHARED_CREDENTIALS_FILE"
)
_REGION = "is in another region; name that with AWS_REGION"
_SENTENCES = {
    "NoSuchBucket": "is not there; make it, or name another one with --engine-files",
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "InvalidAccessKeyId": _UNKNOWN,
    "SignatureDoesNotMatch": _UNKNOWN,
    "ExpiredToken": _UNKNOWN,
    "InvalidToken": _UNKNOWN,
    "RequestTimeTooSkewed": "has another time than this host; set the clock of this host",
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "PermanentRedirect": _REGION,
}

_log = get_logger(__name__)


class _TransientError(StoreBusyError):
    """What may be gone in a moment."""


class Bucket:
    """Remote: in a bucket. Lives on the event loop that runs."""

    def __init__(self, url: str) -> None:
        """Nothing is asked of the bucket before `open`.

        `url` is s3://BUCKET/PREFIX, with ?endpoint=URL and &region=NAME where AWS's variables do
        not tell them. Raises StoreError where the files that those name cannot be read.
        """
        parts = urlsplit(url)
        asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        prefix = parts.path.strip("/")
        self._url = f"s3://{parts.netloc}/{prefix}".rstrip("/")
        account = Account.of(asked)
        self._at = account.endpoint or f"S3 in {account.region}"
        config: S3Config = {"region": account.region}
        if account.endpoint:
            config["endpoint"] = config["aws_endpoint_url_s3"] = account.endpoint
        options: ClientConfig = {
            "allow_http": account.endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=_CONNECT_S),
            "timeout": timedelta(seconds=_PART_S),
        }
        if account.ca is not None:
            options["root_certificate"] = account.ca
        self._store = S3Store(
            parts.netloc,
            prefix=prefix or None,
            config=config,
            credential_provider=account.credentials,
            client_options=options,
            retry_config={"max_retries": 0},  # `_asked` does
        )

    async def open(self) -> str:
        """Sees that the bucket does what is needed; where it is, and its id, as one text.

        Raises StoreError with what to do.
        """
        try:
            await self._try_out()
            return f"{self._url}#{await self._id()}"
        except ServingError as error:
            raise StoreError(f"--engine-files {self._url} at {self._at}: {error}") from error

    async def _try_out(self) -> None:
        """Raises ServingError."""
        by, data = secrets.token_hex(8), b"voxroute"
        key = _part(_PROBE, by, 0)  # which `sweep` removes if this service is killed now
        await self._put(key, data, START_S)
        try:
            again = await self._put_once(key, data)
            listed = await self._listed(f"parts/{_PROBE.job_id}")
            if again or await self._read(key) != data or key not in listed:
                raise StoreError(
                    "it writes over what was to be written once, or does not list or give back"
                    " what was written; conditional writes (If-None-Match) are needed, which AWS,"
                    " R2, and later versions of MinIO, Ceph and SeaweedFS have"
                )
        finally:
            await self._delete([key])

    async def _id(self) -> str:
        """The id of the bucket's prefix, made by whoever comes first. Raises ServingError."""
        await self._put_once(_MARKER, json.dumps({"id": uuid.uuid4().hex}).encode())
        found = await self._read(_MARKER)
        try:
            return str(json.loads(found or b"")["id"])
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"its {_MARKER} is not voxroute's; name another prefix in --engine-files"
            ) from error

    # Files:

    async def put(self, file: FileName, source: Path, patience_s: float = PATIENCE_S) -> Kept:
        """As Remote; what fails takes no room, unless the bucket has gone away meanwhile."""
        by, number, parts = secrets.token_hex(8), itertools.count(), list[int]()

        async def send(data: bytes) -> int:
            at = next(number)
            await self._put(_part(file, by, at), data, patience_s)
            return at

        try:
            size, sha256 = await send_parts(source, _PART_BYTES, send, parts)
        except (ServingError, OSError):
            await self._drop(file, by, parts)
            raise
        kept = Kept(size, sha256, parts, by)
        # where nobody answers, the record may be there, and so its parts have to
        if not await self._put_once(_record(file), kept.dumped(), patience_s):
            there = await self.look(file)
            if there.by != by:  # else it is this one, tried twice
                await self._drop(file, by, parts)
                raise ThereError(file.name)
        return kept

    async def _drop(self, file: FileName, by: str, parts: Sequence[int]) -> None:
        with contextlib.suppress(ServingError):  # `sweep` removes them
            await self._delete([_part(file, by, number) for number in parts])

    async def look(self, file: FileName) -> Kept:
        """As Remote."""
        record = await self._read(_record(file))
        if record is None:
            raise FileNotFoundError(f"the bucket has no {file}")
        try:
            return Kept.read(record)
        except (ValueError, TypeError, KeyError) as error:
            raise FileNotFoundError(f"{file} is damaged where it is kept") from error

    async def get(self, file: FileName, kept: Kept, write: Callable[[bytes], None]) -> None:
        """As Remote."""

        def part(number: int) -> Awaitable[bytes | None]:
            return self._read(_part(file, kept.by, number), _PART_S)

        await fetch_parts(file, kept, part, write)

    async def names(self, job_id: str, place: str) -> list[str]:
        """As Remote."""
        found = await self._listed(f"files/{job_id}/{place}")
        return sorted(name_of(key.split("/")[3]) for key in found)

    async def places(self, job_id: str) -> set[str]:
        """As Remote."""
        found = [*await self._listed(f"files/{job_id}"), *await self._listed(f"parts/{job_id}")]
        return {key.split("/")[2] for key in found}

    async def remove(self, job_id: str, place: str = "") -> None:
        """As Remote."""
        for kind in ("files", "parts"):  # in this order: there is no file without its parts
            found = await self._listed(f"{kind}/{job_id}/{place}".rstrip("/"))
            await self._delete(list(found))

    async def empty(self, file: FileName) -> None:
        """As Remote."""
        await self._delete(list(await self._listed(f"parts/{_path(file)}")))

    async def sweep(
        self, is_known: Callable[[str], Awaitable[bool]], older_s: float = ABANDONED_S
    ) -> int:
        """As Remote; by this host's clock, which a bucket lets differ by a quarter of an hour."""
        old = datetime.now(UTC) - timedelta(seconds=older_s)
        writers: dict[str, dict[str, list[str]]] = {}
        lasts: dict[str, datetime] = {}
        for kind in ("files", "parts"):
            for key, moved in (await self._listed(kind)).items():
                record, by = _written(key)
                writers.setdefault(record, {}).setdefault(by, []).append(key)
                lasts[record] = max(moved, lasts.get(record, moved))
        jobs = {record.split("/")[1] for record in writers}
        strange = {job_id for job_id in jobs if not await is_known(job_id)}
        count = 0
        for record, keys in writers.items():
            if lasts[record] > old:
                continue
            if record.split("/")[1] not in strange and _NOBODY in keys:
                if len(keys) <= 2:  # noqa: PLR2004 - the record, and who has written it
                    continue
                found = await self._read(record)
                by = Kept.read(found).by if found is not None else _NOBODY
                for one in (_NOBODY, by):  # the others were too late
                    keys.pop(one, None)
            await self._delete([key for own in keys.values() for key in own])
            _log.info("a file that is nobody's is removed from the bucket", file=record)
            count += 1
        return count

    # Requests:

    async def _put(self, key: str, data: bytes, patience_s: float = PATIENCE_S) -> None:
        """Writes an object. Raises ServingError."""

        async def put() -> None:
            await obstore.put_async(self._store, key, data, use_multipart=False)

        await self._asked(put, patience_s, _PART_S)

    async def _put_once(self, key: str, data: bytes, patience_s: float = PATIENCE_S) -> bool:
        """Writes an object unless there is one; whether it did. Raises ServingError."""

        async def put() -> bool:
            try:
                await obstore.put_async(self._store, key, data, mode="create")
            except AlreadyExistsError:
                return False
            return True

        return await self._asked(put, patience_s)

    async def _read(self, key: str, most_s: float = PATIENCE_S) -> bytes | None:
        """An object; None where there is none. Raises ServingError."""

        async def read() -> bytes | None:
            try:
                result = await obstore.get_async(self._store, key)
                return bytes(await result.bytes_async())
            except FileNotFoundError as error:
                if "<Code>NoSuchKey<" in str(error):
                    return None
                raise

        return await self._asked(read, most_s=most_s)

    async def _listed(self, prefix: str) -> dict[str, datetime]:
        """The objects below a prefix, and when they were written. Raises ServingError."""

        async def listed() -> dict[str, datetime]:
            listing = obstore.list(self._store, prefix)  # pyright: ignore[reportUnknownMemberType] - Arrow is not installed
            found = await listing.collect_async()
            return {one["path"]: one["last_modified"] for one in found}

        return await self._asked(listed, most_s=_PART_S)

    async def _delete(self, keys: Sequence[str]) -> None:
        """Removes objects, whether they are there or not. Raises ServingError."""
        if keys:
            await self._asked(lambda: obstore.delete_async(self._store, keys), most_s=_PART_S)

    async def _asked(
        self,
        ask: Callable[[], Awaitable[T]],
        patience_s: float = PATIENCE_S,
        most_s: float = PATIENCE_S,
    ) -> T:
        """What a request answers, tried again for a while where that may help.

        One request takes `most_s` at most. Raises DiskFullError, StoreBusyError.
        """
        until, pause_s = time.monotonic() + patience_s, _PAUSE_S
        while True:
            try:
                async with asyncio.timeout(most_s):
                    return await ask()
            except (BaseError, FileNotFoundError, TimeoutError) as error:
                told = _told(error)
                if not isinstance(told, _TransientError) or time.monotonic() + pause_s > until:
                    said = str(error).partition("\n\nDebug source")[0] or "no answer in time"
                    _log.warning("the bucket refuses, or does not answer", error=said)
                    raise told from error
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - no secret
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _told(error: Exception) -> ServingError:
    """What a client is told; the bucket's own sentence is for the log."""
    said = str(error)
    code = next((one for found in _CODE.findall(said) for one in found if one), "")
    found = _STATUS.search(said)
    status = int(found[1]) if found else 0
    if code in _FULL or status == _FULL_STATUS:
        return DiskFullError("the bucket that keeps the files is full; retry when space was freed")
    if _NO_CREDENTIALS.search(said):
        sentence = _NONE
    elif code in _SENTENCES:
        sentence = _SENTENCES[code]
    elif not status and "redirect" in said:
        sentence = _REGION
    elif status in _AGAIN or status >= _SERVERS_FAULT or code in _THROTTLED:
        return _TransientError("the bucket that keeps the files is overloaded; try again")
    elif isinstance(error, TimeoutError) or (not status and _NETWORK in said):
        return _TransientError("the bucket that keeps the files does not answer; try again")
    elif status in {401, 403}:
        sentence = _DENIED
    else:
        sentence = "is not answered for as S3 does; see to its address"
    return StoreBusyError(f"the bucket that keeps the files {sentence}", retry_after_s=60.0)


def _path(file: FileName) -> str:
    return f"{file.job_id}/{file.place}/{file.token}"


def _record(file: FileName) -> str:
    return f"files/{_path(file)}"


def _part(file: FileName, by: str, number: int) -> str:
    return f"parts/{_path(file)}/{by}-{number}"


def _written(key: str) -> tuple[str, str]:
    """The record that a part is of, and its writer; of a record, itself."""
    kind, *path, last = key.split("/")
    if kind == "files":
        return key, _NOBODY
    return "/".join(["files", *path]), last.partition("-")[0]
