"""Where `voxroute` begins and ends.

What a command works with takes a second or two to import. So nothing of it is imported here, and
until it is there an interrupt ends the process at once: nothing has begun that would have to end.
"""

import contextlib
import gc
import os
import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Runs the command and exits with one of the codes of errors.py."""
    gc.disable()  # an import makes no garbage, and looking for it takes a twentieth of its time
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored: `&`
        signal.signal(signal.SIGINT, _leave)
    from voxroute_orchestrator.cli.terminal import standard_streams  # noqa: PLC0415 - not before that counts
    from voxroute_orchestrator.errors import EXIT_OK, VoxrouteError  # noqa: PLC0415 - likewise

    standard_streams.set_up()
    if {"run", "transcribe"} & set(sys.argv[1:]):
        from voxroute_orchestrator.fleet import spare  # noqa: PLC0415 - most others need none

        spare.begin(sys.argv[1:])
    from voxroute_orchestrator.cli.app import app  # noqa: PLC0415 - likewise

    try:
        app()
    except standard_streams.StandardOutputError as error:
        standard_streams.silence_output()
        fail(str(error), error.code)
    except VoxrouteError as error:
        fail(str(error), error.code)
    except KeyboardInterrupt:
        fail("interrupted", 128 + signal.SIGINT)
    except standard_streams.NoReaderError:
        standard_streams.silence_output()
        sys.exit(EXIT_OK)
    finally:
        _leave_stuck_threads()
    sys.exit(EXIT_OK)


def _leave_stuck_threads() -> None:
    """Ends the process now where a thread that reads media does not come back."""
    reading = sys.modules.get("voxroute_orchestrator.reading")
    if reading is None:  # the command has not come to it
        return
    ending = sys.exc_info()[1]
    if ending is None:
        reading.leave_stuck_threads(0)
    elif isinstance(ending, SystemExit) and isinstance(ending.code, int):
        reading.leave_stuck_threads(ending.code)


def all_imported() -> None:
    """Lets an interrupt raise KeyboardInterrupt from here on: what begins now has to be ended.

    During an import that would not do: some libraries take any exception for something that is not
    installed, and Python itself drops one in a callback.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def fail(message: str, code: int) -> NoReturn:
    """Says what went wrong and ends the process."""
    sys.stderr.write(f"voxroute: {message}\n")
    sys.exit(code)


def _leave(number: int, _frame: object) -> NoReturn:
    with contextlib.suppress(OSError):  # closed
        os.write(2, b"voxroute: interrupted\n")
    os._exit(128 + number)
