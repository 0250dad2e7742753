"""Runs benchmarks: python -m benchmarks [NAME [ARGUMENT...]]. Without a name, all of TOYS.

A benchmark is a module of this package with a `main()` that prints its table and returns whether
what it promises holds. Those of REAL need the weights and recordings of `make real-models`, `fleet`
needs `make nats-server`; they take arguments, which `NAME --help` lists.
"""

import importlib
import sys

TOYS = ("mlx_batching", "whisperx_batching", "many_services", "gateway")
REAL = ("cpu", "cuda", "cold", "soundtracks", "live")
FLEET = "fleet"


def main(arguments: list[str]) -> int:
    """The exit code: 1 where a promise does not hold, 2 for an unknown name."""
    if arguments and arguments[0] in (*REAL, FLEET):
        name, *rest = arguments
        return 0 if importlib.import_module(f"benchmarks.{name}").main(rest) else 1
    unknown = sorted(set(arguments) - set(TOYS))
    if unknown:
        known = ", ".join((*TOYS, *REAL, FLEET))
        print(f"no benchmark {', '.join(unknown)}; there are: {known}", file=sys.stderr)
        return 2
    kept = [importlib.import_module(f"benchmarks.{name}").main() for name in arguments or TOYS]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
