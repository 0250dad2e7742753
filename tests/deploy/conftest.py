"""A container engine and a base image that the tests of containers share."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.engine import BASE_IMAGE, Engine, docker_client, wait

BASE_ENV = "VOXROUTE_TEST_BASE_IMAGE"  # an archive for `docker import` in place of debootstrap's
PACKAGES = "python3,python3-venv,ca-certificates,prometheus"


@pytest.fixture(scope="session")
def docker() -> Iterator[Engine]:
    """An engine of the tests' own."""
    client, daemon = docker_client(), shutil.which("dockerd")
    if os.geteuid() != 0 or client is None or daemon is None:
        pytest.skip("needs root, dockerd and a docker client that builds (apt install docker.io)")
    # not pytest's: what could not be removed there would fail every later run
    folder = Path(tempfile.mkdtemp(prefix="voxroute-docker"))
    engine = Engine(client, f"unix://{folder}/d.sock")
    command = [daemon, "-H", engine.host, "--data-root", str(folder / "data")]
    command += ["--exec-root", str(folder / "exec"), "--pidfile", str(folder / "pid")]
    command += ["--iptables=false", "--ip6tables=false"]
    # containerd sets its own limit of files very high, and Debian's scripts close all of them
    command += ["--default-ulimit", "nofile=20000:20000"]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def answers() -> bool:
        with contextlib.suppress(AssertionError):
            engine("info")
            return True
        return process.poll() is not None

    try:
        wait(answers, 60, log.read_text)
        if process.poll() is not None:
            pytest.skip(f"dockerd cannot run here: {log.read_text().splitlines()[-1]}")
        yield engine
    finally:
        process.terminate()
        process.wait(60)
        # dockerd 20.10 leaves it mounted
        namespace = str(folder / "exec" / "netns" / "default")
        subprocess.run(["umount", namespace], check=False, capture_output=True)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def base_image(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Debian with Python and Prometheus, made without a registry of images."""
    archive = os.environ.get(BASE_ENV)
    if archive is None:
        if shutil.which("debootstrap") is None:
            pytest.skip(f"needs debootstrap, or {BASE_ENV}: an archive of a system with {PACKAGES}")
        root, archive = tmp_path_factory.mktemp("base"), str(tmp_path_factory.mktemp("b") / "b.tar")
        options = ["--variant=minbase", f"--include={PACKAGES}"]
        made = ["debootstrap", *options, "bookworm", str(root)]
        subprocess.run(made, check=True, capture_output=True, timeout=1200)
        subprocess.run(["tar", "-C", str(root), "-cf", archive, "."], check=True)
        shutil.rmtree(root)
    docker("import", archive, BASE_IMAGE)
    return BASE_IMAGE
