#!/bin/sh
# Detects the hardware and writes out/hardware_cache.json; --help lists the options.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
if [ ! -x "$root/.venv/bin/voxroute" ]; then
    echo "voxroute is not installed here yet; run: make -C '$root' install" >&2
    exit 1
fi
export VOXROUTE_WORK_DIR="${VOXROUTE_WORK_DIR:-$root/out}"
exec "$root/.venv/bin/voxroute" bootstrap "$@"
