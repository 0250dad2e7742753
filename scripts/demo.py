"""Runs the reference job on the bundled example with the bundled models, and shows what came out.

Starts the local services, transcribes the Hindi clip, translates it to English, prints the English
subtitles and how they compare with the reference. Nothing is fetched. Exits with 1 where fewer than
85 % of the cues match.
"""

import os
import subprocess
import sys
from pathlib import Path

from scripts.compare_subtitles import compare, report
from voxroute_orchestrator.subtitles.formats import read

ROOT = Path(__file__).resolve().parent.parent
LEAST_SHARE = 0.85


def main() -> int:
    """Returns the exit code of the process."""
    (clip,) = (ROOT / "examples").glob("*.mp4")
    output = ROOT / "out" / "demo"
    command = ["run", str(clip), "-s", "hi", "-t", "en", "-o", str(output), "--offline"]
    shown = clip.relative_to(ROOT)
    print(f"$ voxroute run {shown} -s hi -t en -o {output.relative_to(ROOT)} --offline", flush=True)
    done = subprocess.run(
        [Path(sys.executable).with_name("voxroute"), *command],
        check=False,
        env=os.environ | {"VOXROUTE_LOCAL_IDLE_S": "0"},  # a demo leaves nothing running
    )
    if done.returncode:
        return done.returncode
    print(f"\nEnglish subtitles:\n\n{(output / f'{clip.stem}.en.srt').read_text(encoding='utf-8')}")
    worst = 1.0
    for language in ("hi", "en"):
        produced = read(output / f"{clip.stem}.{language}.srt")
        result = compare(produced, read(clip.with_suffix(f".{language}.srt")))
        print(f"{language}, against the reference: {report(result)}")
        worst = min(worst, result.share)
    print("\nFiles:")
    for path in sorted(output.iterdir()):
        print(f"  {path.relative_to(ROOT)}")
    return 0 if worst >= LEAST_SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
