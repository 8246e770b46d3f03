# SPDX-License-Identifier: Apache-2.0
"""Make files/sounds.zip: one short sound in every container that ffmpeg and sox write.

    python tests/sounds.py        needs ffmpeg and sox; Debian's were used

The sound is 0.4 s of two tones, 8 kHz, mono unless its name says otherwise. Tests read
the archive, so that they need neither program.
"""

from __future__ import annotations

import pathlib
import subprocess
import tempfile
import wave
import zipfile

import numpy as np

ARCHIVE = pathlib.Path(__file__).parent / "files" / "sounds.zip"
RATE, SAMPLES = 8000, 3200
TAGS = {
    "title": "Größe",
    "artist": "A",
    "album_artist": "AA",
    "composer": "C",
    "comment": "said",
    "X-MOOD": "calm",
}
FFMPEG = {
    "pcm.wav": "-c:a pcm_s16le",
    "float.wav": "-c:a pcm_f32le",
    "mulaw.wav": "-c:a pcm_mulaw",
    "adpcm.wav": "-c:a adpcm_ms",
    "gsm.wav": "-c:a libgsm_ms",
    "mpeg3.wav": "-c:a libmp3lame",
    "mpeg2.wav": "-ar 16000 -c:a mp2",
    "rf64.wav": "-rf64 always",
    "pcm.w64": "",
    "pcm.aiff": "-write_id3v2 1",
    "pcm.au": "",
    "pcm.caf": "",
    "alac.caf": "-c:a alac",
    "flac.flac": "",
    "vorbis.ogg": "-c:a libvorbis",
    "flac.ogg": "-c:a flac",
    "speex.spx": "-c:a libspeex",
    "opus.opus": "-c:a libopus",
    "xing.mp3": "-c:a libmp3lame -b:a 24k",
    "plain.mp3": "-c:a libmp3lame -b:a 24k -write_xing 0 -id3v2_version 0",
    "tagged.mp3": "-c:a libmp3lame -q:a 5 -write_xing 0",
    "layer2.mp2": "-ar 16000 -c:a mp2",
    "adts.aac": "-c:a aac",
    "aac.m4a": "-c:a aac",
    "first.m4a": "-c:a aac -movflags faststart",
    "alac.m4a": "-c:a alac",
    "parts.mp4": "-c:a aac -movflags frag_keyframe+empty_moov",
    "pcm.mov": "-c:a pcm_s16le",
    "vorbis.mkv": "-c:a libvorbis",
    "pcm.mkv": "-c:a pcm_s16le",
    "opus.webm": "-c:a libopus",
    "wavpack.wv": "",
    "true.tta": "",
    "dolby.ac3": "-ar 32000",
    "windows.wma": "-ar 16000",
    "video.avi": "-c:a libmp3lame",
    "stream.ts": "-c:a aac",
    "flash.flv": "-ar 22050 -c:a aac",
}
SOX = ["sphere.sph", "creative.voc", "amiga.8svx", "psion.wve", "apple.aifc", "sun.snd"]
# Written into a pipe, so that no length is filled in.
PIPED = {"wav": "-f wav", "w64": "-f w64", "mkv": "-f matroska", "flac": "-f flac"}


def main() -> None:
    t = np.arange(SAMPLES) / RATE
    x = 0.3 * np.sin(2 * np.pi * 220 * t) + 0.2 * np.sin(2 * np.pi * 707 * t)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        source = folder / "source"
        with wave.open(str(source), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes((32767 * x).astype("<i2").tobytes())
        read = ["ffmpeg", "-v", "error", "-f", "wav", "-i", str(source)]
        tags = [f for k, v in TAGS.items() for f in ("-metadata", f"{k}={v}")]
        for file, options in FFMPEG.items():
            command = [*read, *tags, *options.split(), str(folder / file)]
            subprocess.run(command, check=True)
        for file in SOX:
            command = ["sox", "-t", "wav", str(source), str(folder / file)]
            subprocess.run(command, check=True)
        for suffix, options in PIPED.items():
            command = [*read, *options.split(), "-"]
            data = subprocess.run(command, check=True, capture_output=True).stdout
            (folder / f"piped.{suffix}").write_bytes(data)
        source.unlink()
        with zipfile.ZipFile(ARCHIVE, "w") as out:
            for path in sorted(folder.iterdir()):
                stamp = zipfile.ZipInfo(path.name)
                out.writestr(stamp, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    main()
