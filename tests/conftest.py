"""What every test has in common."""

import gc
import os
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import numpy as np
    from xdist.scheduler import LoadFileScheduling

TOGETHER = {
    "tests/e2e": "services of their own",
    "tests/gateway": "a gateway and its services",
    "tests/gateway/live": "live speech",
    "tests/gateway/web": "the page",
    "tests/asr_mlx": "engines",
    "tests/engines": "engines",
    "tests/translate": "engines",
}
"""Folders whose tests share what takes a processor 20 s to start or to import."""
BUNDLED_ASR = Path(__file__).parents[1] / "models" / "asr-tiny-hi-en"

# Hundreds of processes import the same libraries: compiling torch takes each of them 5 s.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Threads of torch and CTranslate2 that wait for each other would do so in a loop, on the processor
# that the other needs: beside other work that makes 8 s of training 94 s.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Looks for no garbage while all is imported, nor among it after that: seconds each time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> "LoadFileScheduling | None":
    """Gives a process a file at a time, or all folders of a name in TOGETHER."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling  # noqa: PLC0415 - there where tests are shared out

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return TOGETHER.get(file.rpartition("/")[0], file)

    return Scheduling(config, log)


@pytest.fixture(autouse=True, scope="session")
def signals_as_at_a_terminal() -> None:
    """Processes of a test hear Ctrl-C and a hangup, also where the tests run in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True, scope="session")
def no_hub() -> None:
    """Nothing in a test may ask a model hub; here in case a library tries."""
    patch = pytest.MonkeyPatch()
    patch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True, scope="session")
def no_warm_services() -> Iterator[None]:
    """Local services end with the command that starts them; a test that wants others says so.

    What a command keeps all the same is in a folder of the tests, and fails them.
    """
    with tempfile.TemporaryDirectory(prefix="vxr") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXROUTE_LOCAL_IDLE_S", "0")
        patch.setenv("XDG_RUNTIME_DIR", folder)
        yield
        left = [path.read_text() for path in Path(folder).rglob("*.json")]
        assert not left, f"services that were left running: {left}"


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model cache that all tests of a run share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def bundled_asr() -> Path:
    """The bundled speech model."""
    if not (BUNDLED_ASR / "model.safetensors").is_file():
        pytest.skip("models/asr-tiny-hi-en/model.safetensors is missing")
    return BUNDLED_ASR


@pytest.fixture(scope="session")
def noise() -> "list[np.ndarray]":
    """Windows of noise: 3 s, a full one, one that ends inside a frame, and 6 ms."""
    import numpy as np  # noqa: PLC0415 - most tests do without

    source = np.random.default_rng(0)
    lengths = (48_000, 480_000, 144_005, 100)
    return [(source.standard_normal(n) * 0.1).astype(np.float32) for n in lengths]
