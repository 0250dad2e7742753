"""Settings of a service: flags, variables, lists, addresses, misspelt names."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from voxroute_asr_mlx.settings import MlxSettings
from voxroute_asr_whisperx.settings import WhisperXSettings
from voxroute_serving.process.settings import ServiceSettings, misspelt_variables
from voxroute_translate.settings import TranslateSettings


def of_flags(*flags: str) -> ServiceSettings:
    """The settings of a command line."""
    return ServiceSettings(_cli_parse_args=list(flags))  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize(
    "address", ["127.0.0.1:0", "[::1]:50051", "[fe80::1%eth0]:1", "localhost:65535"]
)
def test_addresses_of_hosts_are_taken_as_they_are(address: str) -> None:
    """IPv4, IPv6 in brackets, with a zone, and names."""
    assert of_flags("--listen", address, "--insecure").listen == [address]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("50051", "HOST:PORT"),
        ("host:", "HOST:PORT"),
        (":50051", "HOST:PORT"),
        ("host:65536", "HOST:PORT"),
        ("::1:50051", "brackets"),
        ("unix:s.sock", "absolute"),
    ],
)
def test_an_address_that_cannot_be_served_on_says_how_to_write_it(address: str, words: str) -> None:
    """The message has the form, not a stack of parser terms."""
    with pytest.raises(ValidationError, match=words):
        of_flags("--listen", address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:1",
        "[::]:1",
        "192.168.1.5:1",
        "asr.example.org:1",
        "[::ffff:10.0.0.1]:1",
        "localhost.example.org:1",
    ],
)
@pytest.mark.parametrize("flag", ["--listen", "--metrics-listen"])
def test_an_address_that_others_reach_needs_tls_or_a_word(flag: str, address: str) -> None:
    """Calls and metrics leave this machine encrypted, or because somebody said --insecure."""
    with pytest.raises(ValidationError, match="--insecure"):
        of_flags(flag, address)
    assert of_flags(flag, address, "--insecure").insecure
    assert of_flags(flag, address, "--tls-cert", "c.pem", "--tls-key", "k.pem").tls_cert


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "localhost:1", "[::ffff:127.0.0.1]:1"]
)
def test_loopback_and_sockets_need_nothing(address: str) -> None:
    """What only this machine can reach is served as it is."""
    assert of_flags("--listen", f"{address},unix:/run/x.sock", "--metrics-listen", address)


@pytest.mark.parametrize(
    "flags",
    [
        ["--tls-cert", "c.pem"],
        ["--tls-key", "k.pem"],
        ["--tls-client-ca", "ca.pem"],
    ],
)
def test_half_of_tls_is_refused(flags: list[str]) -> None:
    """A forgotten flag must not turn encryption, or the check of clients, off."""
    with pytest.raises(ValidationError, match="--tls-"):
        of_flags(*flags)


def test_lists_are_written_with_commas_or_by_repeating() -> None:
    """Both ways at once, blanks do not count, and unix:// is unix:."""
    flags = ["--listen", "127.0.0.1:1, 127.0.0.1:2", "--listen", "unix:///run/x.sock"]
    assert of_flags(*flags).listen == ["127.0.0.1:1", "127.0.0.1:2", "unix:/run/x.sock"]
    with pytest.raises(ValidationError):
        of_flags("--listen", " , ")


def test_a_list_may_come_from_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable is written like a flag, without JSON."""
    monkeypatch.setenv("VOXROUTE_LISTEN", "127.0.0.1:1,[::1]:2")
    assert ServiceSettings().listen == ["127.0.0.1:1", "[::1]:2"]
    monkeypatch.setenv("VOXROUTE_LISTEN", '["127.0.0.1:1"]')
    with pytest.raises(ValidationError):
        ServiceSettings()


def test_flags_beat_variables_and_variables_beat_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The nearest to the person who starts the service wins, also for lists and switches."""
    monkeypatch.setenv("VOXROUTE_DRAIN_S", "5")
    monkeypatch.setenv("VOXROUTE_LISTEN", "127.0.0.1:1")
    monkeypatch.setenv("VOXROUTE_REFLECTION", "true")
    monkeypatch.setenv("VOXROUTE_MODEL_CACHE_DIR", str(tmp_path))
    settings = of_flags("--drain-s", "7", "--listen", "127.0.0.1:2", "--no-reflection")
    assert (settings.drain_s, settings.listen) == (7.0, ["127.0.0.1:2"])
    assert settings.reflection is False
    assert settings.model_cache_dir == tmp_path
    assert of_flags().drain_s == 5.0


def test_the_hubs_token_is_offered_as_no_flag_and_never_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a variable: other users can read the flags of a process."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    settings = of_flags()
    assert settings.hub_token == "hf_secret"  # noqa: S105 - the test's own
    assert "hf_secret" not in repr(settings)
    with pytest.raises(SystemExit):
        of_flags("--help")
    offered = capsys.readouterr().out.lower()
    assert "--drain-s" in offered
    assert "hf-token" not in offered
    assert "hf_token" not in offered


def test_misspelt_variables_are_found() -> None:
    """A near miss is told with what it likely means; other parts' variables are left alone."""
    environment = {
        "VOXROUTE_DRAIN_SECS": "1",
        "VOXROUTE_LISTN": "x",
        "VOXROUTE_LISTEN": "127.0.0.1:1",
        "voxroute_drain_s": "1",
        "VOXROUTE_ASR_ENDPOINTS": "x",
        "PATH": "/bin",
    }
    found = dict(misspelt_variables(ServiceSettings, environment))
    assert found["VOXROUTE_LISTN"] == "VOXROUTE_LISTEN"
    assert set(found) <= {"VOXROUTE_LISTN", "VOXROUTE_DRAIN_SECS"}


def test_services_of_one_host_do_not_meet_on_a_port() -> None:
    """Each has its own port for calls and for metrics, on this machine alone."""
    kinds = [WhisperXSettings, MlxSettings, TranslateSettings]
    services = [kind() for kind in kinds]
    calls = [address for settings in services for address in settings.listen]
    metrics = [settings.metrics_listen for settings in services]
    assert calls == ["127.0.0.1:50051", "127.0.0.1:50052", "127.0.0.1:50053"]
    assert metrics == ["127.0.0.1:9151", "127.0.0.1:9152", "127.0.0.1:9153"]
