#!/bin/bash
# Runs the MLX speech service under launchd, for the current user.
# Works with the bash of macOS (3.2).
set -euo pipefail

LABEL=org.voxroute.asr-mlx
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
PYTHON=${VOXROUTE_MLX_ENVIRONMENT:-$ROOT/.venv-mlx}/bin/python
LOGS=$HOME/Library/Logs/voxroute
AGENT=$HOME/Library/LaunchAgents/$LABEL.plist
DOMAIN=gui/$(id -u)

CHECK_FLAGS='
import sys
from pydantic import ValidationError
from voxroute_asr_mlx.settings import MlxSettings
try:
    MlxSettings(_cli_parse_args=True)
except ValidationError as error:
    sys.exit(str(error))
'

usage() {
	cat <<EOF
usage: asr-mlx.sh install [FLAG...]   start the service now and at every login
       asr-mlx.sh uninstall           stop it and forget it; logs and models stay
       asr-mlx.sh status              what launchd knows of it
       asr-mlx.sh render [FLAG...]    print the launchd job
FLAG is a flag of the service, such as --model large-v3 or --offline.
EOF
}

fail() {
	echo "asr-mlx.sh: $*" >&2
	exit 1
}

need_environment() {
	[ -x "$PYTHON" ] || fail "$PYTHON is not there; run $ROOT/install-mlx.sh first"
}

need_launchd() {
	command -v launchctl >/dev/null ||
		fail "there is no launchctl; launchd is macOS's. Elsewhere start the service itself: $PYTHON -m voxroute_asr_mlx"
}

loaded() {
	launchctl print "$DOMAIN/$LABEL" >/dev/null 2>&1
}

stop() {
	loaded || return 0
	launchctl bootout "$DOMAIN/$LABEL" 2>/dev/null || true
	# bootout returns before the drain is over, and a job that still stops cannot be loaded again
	local waited=0 limit
	limit=$(sed -n '/ExitTimeOut/{n;s/[^0-9]//g;p;}' "$AGENT" 2>/dev/null || true)
	limit=$((${limit:-60} + 10))
	while loaded; do
		[ "$waited" -lt "$limit" ] || fail "the service did not stop in $limit s; look at $LOGS/asr-mlx.log"
		sleep 1
		waited=$((waited + 1))
	done
}

install() {
	need_environment
	need_launchd
	# asked first, so that a misspelt flag is told here and not in a log
	"$PYTHON" -c "$CHECK_FLAGS" "$@" || fail "the service does not take these flags: $*"
	mkdir -p "$LOGS" "$(dirname "$AGENT")"
	"$PYTHON" "$HERE/render.py" "$PYTHON" "$LOGS" "$@" >"$AGENT.new"
	stop
	mv "$AGENT.new" "$AGENT"
	launchctl bootstrap "$DOMAIN" "$AGENT" ||
		fail "launchd did not take $AGENT; log in at the Mac's own screen once (launchd starts agents of such sessions)"
	echo "installed $LABEL; its log is $LOGS/asr-mlx.log"
}

uninstall() {
	need_launchd
	stop
	rm -f "$AGENT"
	echo "uninstalled $LABEL; logs stay in $LOGS"
}

status() {
	need_launchd
	loaded || fail "$LABEL is not installed"
	launchctl print "$DOMAIN/$LABEL" | grep -E '^[[:space:]]*(state|pid|runs|last exit code) =' || true
	echo "log: $LOGS/asr-mlx.log"
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
install) install "$@" ;;
uninstall) uninstall ;;
status) status ;;
render)
	need_environment
	"$PYTHON" "$HERE/render.py" "$PYTHON" "$LOGS" "$@"
	;;
-h | --help | help) usage ;;
*)
	usage >&2
	exit 2
	;;
esac
