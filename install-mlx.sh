#!/bin/bash
# Installs the MLX speech service alone, as locked, into an environment of its own (.venv-mlx).
# Meant for Macs with Apple silicon; on Linux it installs MLX for the CPU. Run it again at any time.
# Works with the bash of macOS (3.2).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

ENVIRONMENT=${VOXROUTE_MLX_ENVIRONMENT:-$PWD/.venv-mlx}

fail() {
	echo "install-mlx.sh: $*" >&2
	exit 1
}

system=$(uname -s)
machine=$(uname -m)
case $system-$machine in
Darwin-arm64 | Linux-x86_64 | Linux-aarch64) ;;
Darwin-*)
	if [ "$(sysctl -n sysctl.proc_translated 2>/dev/null || true)" = 1 ]; then
		fail "this shell runs under Rosetta; run ./install-mlx.sh from a terminal that runs natively (arch -arm64 ./install-mlx.sh)"
	fi
	fail "MLX needs a Mac with Apple silicon and this one has an Intel processor; run 'make install' and use the WhisperX service (python -m voxroute_asr_whisperx) instead"
	;;
*) fail "there is no MLX for $system on $machine; use the WhisperX service instead" ;;
esac

# The python3 of macOS itself is too old; one from python.org or Homebrew is found by its version.
python=
for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
	if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
		python=$(command -v "$candidate")
		break
	fi
done
[ -n "$python" ] || fail "no Python 3.11, 3.12 or 3.13 found; install one (brew install python@3.12) or name it: PYTHON=/path/to/python ./install-mlx.sh"
command -v make >/dev/null || fail "make is missing; on a Mac install it with: xcode-select --install"

make --no-print-directory PYTHON="$python" .tools/bin/uv uv.lock
echo "installing into $ENVIRONMENT"
UV_PROJECT_ENVIRONMENT=$ENVIRONMENT .tools/bin/uv sync --locked --no-dev --no-editable \
	--package voxroute-asr-mlx --python "$python"

"$ENVIRONMENT/bin/python" - <<'PYTHON' || fail "MLX is installed but does not work here; the lines above say why"
import platform
from importlib.metadata import version

import mlx.core as mx
import mlx_whisper
import voxroute_asr_mlx.__main__

assert mlx_whisper and voxroute_asr_mlx
mx.eval(mx.ones((8, 8)) @ mx.ones((8, 8)))  # a device that is listed may still fail to compute
for name in ("mlx", "mlx-whisper", "voxroute-asr-mlx"):
    print(f"{name} {version(name)}")
print(f"python {platform.python_version()} on {platform.system()} {platform.machine()}")
print(f"default device: {mx.default_device()}")
print(f"Metal available: {'yes' if mx.metal.is_available() else 'no'}")
if platform.system() == "Darwin" and not mx.metal.is_available():
    print("warning: without Metal the service computes on the CPU; virtual machines have no Metal")
PYTHON

echo "installed; start it with: $ENVIRONMENT/bin/python -m voxroute_asr_mlx"
[ "$system" != Darwin ] || echo "or at every login with: deploy/launchd/asr-mlx.sh install"
