"""Make the example film and its reference subtitles: `python examples/make_clip.py`.

A minute of Hindi dialogue with synthetic voices, soft music and a drawn picture (H.264 and AAC in MP4), and ten
seconds of English speech as WAV. Needs espeak-ng, and the packages of the `models` dependency group.
"""

from __future__ import annotations

import argparse
import random
import sys
import wave
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).parents[1]))

from models.train import audio, voices

TITLE = "lost-key"
WIDTH, HEIGHT, FRAMES_PER_SECOND = 640, 360, 12
MUSIC_DB = -24.0  # below speech

MAN = voices.Voice("hi", "m3", 150, 40, 50)
WOMAN = voices.Voice("hi", "f2", 155, 55, 60)
BOY = voices.Voice("hi", "m7", 150, 65, 55)


class Line(NamedTuple):
    """One line of dialogue and the pause after it, in seconds."""

    voice: voices.Voice
    hi: str
    en: str
    pause_s: float


# The pauses keep 30 s of dialogue below 224 tokens: decoders stop at half of Whisper's 448 positions, and Hindi
# takes about five tokens a word.
LINES = [
    Line(MAN, "मीरा, चाबी कहाँ है?", "Meera, where is the key?", 1.65),
    Line(WOMAN, "चाबी मेज़ पर है।", "The key is on the table.", 1.85),
    Line(MAN, "नहीं, मेज़ पर एक किताब है।", "No, there is a book on the table.", 2.05),
    Line(WOMAN, "कल रात राम ने चाबी छिपाई।", "Last night Ram hid the key.", 1.75),
    Line(MAN, "राम ने चाबी क्यों छिपाई?", "Why did Ram hide the key?", 1.75),
    Line(
        WOMAN,
        "राम हमारी गाड़ी बेचना चाहता है।",
        "Ram wants to sell our car.",
        1.65,
    ),
    Line(MAN, "यह नामुमकिन है।", "This is impossible.", 3.95),
    Line(MAN, "मोहन, राम कहाँ है?", "Mohan, where is Ram?", 1.65),
    Line(BOY, "राम बाज़ार में इंतज़ार कर रहा है।", "Ram is waiting in the market.", 1.95),
    Line(WOMAN, "मेरे पिता बहुत नाराज़ हैं।", "My father is very angry.", 1.75),
    Line(MAN, "हमें राम को ढूँढना चाहिए।", "We should look for Ram.", 1.85),
    Line(BOY, "रेलगाड़ी शाम छह बजे आएगी।", "The train will come at six in the evening.", 1.65),
    Line(WOMAN, "हमारे पास समय नहीं है।", "We do not have time.", 3.55),
    Line(MAN, "क्या आप ताला तोड़ सकते हैं?", "Can you break the lock?", 1.65),
    Line(BOY, "मुझे एक हथौड़ा चाहिए।", "I need a hammer.", 1.85),
    Line(WOMAN, "मेरे पास दो सौ रुपये हैं।", "I have two hundred rupees.", 1.75),
    Line(BOY, "चिंता मत कीजिए।", "Do not worry.", 1.95),
    Line(MAN, "धन्यवाद।", "Thank you.", 2.25),
]

ENGLISH = [
    (voices.Voice("en-us", "f3", 150, 50, 50), "Good night."),
    (
        voices.Voice("en-us", "m3", 150, 45, 50),
        "I think that the doctor is sleeping in the garden.",
    ),
    (voices.Voice("en-us", "f3", 150, 50, 50), "Why did you open the door?"),
    (voices.Voice("en-us", "m3", 150, 45, 50), "My brother has already repaired this radio."),
]


class Cue(NamedTuple):
    """A subtitle, in seconds from the start of the clip."""

    start_s: float
    end_s: float
    text: str


def speak(espeak: voices.Espeak, text: str, voice: voices.Voice) -> np.ndarray:
    """`text` as float samples at 16 kHz with a peak of 0.5."""
    samples = audio.resample(espeak.speak(text, voice), espeak.sample_rate).astype(np.float32)
    return samples / np.abs(samples).max() * 0.5


def dialogue(
    lines: list[tuple[voices.Voice, str, float]], lead_s: float
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Speech with pauses [samples at 16 kHz], and the span of each line in seconds."""
    espeak = voices.Espeak()
    parts = [np.zeros(int(lead_s * audio.SAMPLE_RATE), np.float32)]
    spans: list[tuple[float, float]] = []
    at_s = lead_s
    for voice, text, pause_s in lines:
        speech = speak(espeak, text, voice)
        length_s = len(speech) / audio.SAMPLE_RATE
        spans.append((at_s, at_s + length_s))
        silence = np.zeros(int(pause_s * audio.SAMPLE_RATE), np.float32)
        parts += [speech, silence]
        at_s += length_s + len(silence) / audio.SAMPLE_RATE
    return np.concatenate(parts), spans


def srt(cues: list[Cue]) -> str:
    """SubRip text."""

    def stamp(seconds: float) -> str:
        ms = round(seconds * 1000)
        return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"

    blocks = [
        f"{n}\n{stamp(c.start_s)} --> {stamp(c.end_s)}\n{c.text}\n" for n, c in enumerate(cues, 1)
    ]
    return "\n".join(blocks)


def frame(time_s: float, length_s: float, speaking: bool) -> np.ndarray:
    """The picture at `time_s` [height, width, 3]: an evening sky, a moon that crosses it, and the title."""
    rows = np.linspace(0, 1, HEIGHT)[:, None, None]
    top, bottom = np.array([24, 28, 66]), np.array([196, 106, 74])
    picture = np.broadcast_to(top + (bottom - top) * rows, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    image = Image.fromarray(picture.copy())
    draw = ImageDraw.Draw(image)
    x = 60 + (WIDTH - 120) * time_s / length_s
    draw.ellipse((x - 26, 64, x + 26, 116), fill=(250, 240, 200))
    draw.polygon([(0, 360), (160, 230), (300, 330), (430, 250), (640, 360)], fill=(30, 24, 40))
    draw.rectangle((440, 240, 520, 320), fill=(48, 36, 52))
    draw.rectangle((466, 266, 494, 294), fill=(255, 220, 120) if speaking else (120, 96, 70))
    if time_s < 6:
        draw.text(
            (WIDTH / 2, 170),
            "The Lost Key",
            font=ImageFont.load_default(44),
            fill="white",
            anchor="mm",
        )
    return np.asarray(image)


def write_film(path: Path, samples: np.ndarray, spans: list[tuple[float, float]]) -> None:
    """Mux picture (H.264) and sound (AAC, 64 kbit/s, 44.1 kHz) into an MP4 with its index first."""
    length_s = len(samples) / audio.SAMPLE_RATE
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        video = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.options = {"crf": "30", "preset": "slow", "g": "48"}
        sound = container.add_stream("aac", rate=44_100, layout="mono")
        sound.bit_rate = 64_000
        for n in range(int(length_s * FRAMES_PER_SECOND)):
            time_s = n / FRAMES_PER_SECOND
            speaking = any(start <= time_s <= end for start, end in spans)
            picture = av.VideoFrame.from_ndarray(frame(time_s, length_s, speaking), format="rgb24")
            picture.pts, picture.time_base = n, Fraction(1, FRAMES_PER_SECOND)
            container.mux(video.encode(picture))
        container.mux(video.encode())
        resampler = av.AudioResampler("fltp", "mono", 44_100, frame_size=1024)
        block = av.AudioFrame.from_ndarray(
            (samples * 32767).astype(np.int16)[None], format="s16", layout="mono"
        )
        block.sample_rate, block.pts, block.time_base = (
            audio.SAMPLE_RATE,
            0,
            Fraction(1, audio.SAMPLE_RATE),
        )
        for piece in [*resampler.resample(block), *resampler.resample(None)]:
            container.mux(sound.encode(piece))
        container.mux(sound.encode())


def write_wav(path: Path, samples: np.ndarray) -> None:
    """16-bit mono at 16 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(audio.SAMPLE_RATE)
        file.writeframes((samples * 32767).astype(np.int16).tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    torch.manual_seed(0)
    random.seed(0)
    speech, spans = dialogue([(line.voice, line.hi, line.pause_s) for line in LINES], lead_s=1.5)
    music = audio.music(1, len(speech), torch.device("cpu"), seed=4)[0].numpy()
    level = np.sqrt(np.mean(speech[np.abs(speech) > 1e-4] ** 2)) * 10 ** (MUSIC_DB / 20)
    write_film(args.directory / f"{TITLE}.mp4", np.clip(speech + level * music, -1, 1), spans)
    for language in ("hi", "en"):
        cues = [
            Cue(*span, getattr(line, language)) for span, line in zip(spans, LINES, strict=True)
        ]
        (args.directory / f"{TITLE}.{language}.srt").write_text(srt(cues))
    speech, spans = dialogue([(voice, text, 0.8) for voice, text in ENGLISH], lead_s=0.5)
    write_wav(args.directory / "evening.wav", speech)
    cues = [Cue(*span, text) for span, (_, text) in zip(spans, ENGLISH, strict=True)]
    (args.directory / "evening.en.srt").write_text(srt(cues))


if __name__ == "__main__":
    main()
