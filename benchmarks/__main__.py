"""Runs benchmarks: python -m benchmarks [name...]. Without a name, all of them.

A benchmark is a module of this package with a `main()` that prints its table and returns whether
what it promises holds.
"""

import importlib
import sys

NAMES = ("mlx_batching", "whisperx_batching", "many_services")


def main(names: list[str]) -> int:
    """The exit code: 1 where a promise does not hold, 2 for an unknown name."""
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    kept = [importlib.import_module(f"benchmarks.{name}").main() for name in names or NAMES]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
