# SPDX-License-Identifier: Apache-2.0
"""Files in, files out: what the command line and `polycodec.encode` call.

    photo.png ─┐                  ┌─ image/encode.py    tiles        photo.plc
    clip.mp4  ─┼─ kind_of(file) ──┼─ video/encode.py    frames       clip.plc
    talk.flac ─┘                  └─ speech/encode.py   seconds      talk.plc

The kind of a signal is recognised from its file; ``as_`` overrules. Options that mean
nothing for it are refused by name instead of being ignored.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from polycodec.codecs.files import fit
from polycodec.codecs.files.container.file import Reader
from polycodec.codecs.files.ends import (
    Ends,
    Progress,
    Target,
    decoded_as,
    encoded_as,
    in_memory,
    target_of,
)
from polycodec.codecs.files.keywords import (
    DecodeKeywords,
    EncodeKeywords,
    documented,
)
from polycodec.codecs.files.kinds import KINDS, kind_called, kind_named, kind_of
from polycodec.codecs.files.loader import Loader
from polycodec.codecs.files.options import choose
from polycodec.codecs.files.results import Decoded, Encoded
from polycodec.codecs.files.sources import Source, name_of, opened, seekable
from polycodec.codecs.files.speech.damage import with_seconds
from polycodec.codecs.files.video.damage import with_frames
from polycodec.errors import TruncatedError

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec

logger = logging.getLogger(__name__)
ENCODE = {kind.words: kind.encode for kind in KINDS.values()}
DECODE = {kind.words: kind.decode for kind in KINDS.values()}


@documented(EncodeKeywords)
def encode(
    input: Source,
    output: Target | None = None,
    *,
    codec: Codec | Loader | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Encoded:
    """Encode an image, a video or a speech file to a ``.plc`` file.

    A folder is a video, of numbered frames. One of ``quality`` (0 … 100, default 50),
    ``target_bpp`` (at most; bits a pixel, of speech bits a second), ``target_kbps``
    (speech, video), ``target_size`` (bytes at most) or ``min_psnr`` (images, dB at
    least) sets the rate. ``tile`` None: chosen by size;
    ``effort`` costs a few times the plain encoding's time for each step and the decoder
    nothing. ``codec``: an already loaded codec, to encode many files.

    ``input``: a path, an open file, or the bytes of one. Of bytes without ``output``
    the file that was made is the result's ``data``.

    Raises the errors of `polycodec.errors`; on an error nothing is written. UsageError
    for an option that is for another kind of signal, or none.
    """
    output, kept = in_memory(input, output)
    input = seekable(input)
    called = options.get("as_")
    kind = kind_named(kind_called(called) if called else kind_of(input))
    chosen = choose(ENCODE, kind.words, options)
    force = chosen.force or getattr(chosen, "resume", False)
    target = target_of(input, output, ".plc", force)
    chosen = fit.going_on(target, chosen)
    encoded_as(target)
    ends = Ends(input, target, chosen, codec, progress)
    logger.debug("encoding %s as %s", name_of(input), kind.words)
    result = kind.module("encode").encode(ends)
    result.data = kept.getvalue()
    return result


@documented(DecodeKeywords)
def decode(
    input: Source,
    output: Target | None = None,
    *,
    codec: Codec | Loader | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Decoded:
    """Decode a ``.plc`` file to an image, video or speech file, its format by suffix.

    ``region`` of an image: (x, y, width, height) in pixels; ``seconds`` of speech and
    ``frames`` of a video: (from, to), None is the end. Only the tiles, seconds or
    groups of frames that are needed are read. ``size`` of an image: of its longer side,
    at most, for a preview. An output such as ``out/%05d.png`` gets each frame of a
    video.
    ``codec``: an already loaded codec, used for the files it made. Bytes as `encode`
    has them, decoded to PNG or WAV.

    Raises the errors of `polycodec.errors`; on an error nothing is written. UsageError
    for an option that is for another kind of signal, or none.
    """
    output, kept = in_memory(input, output)
    input = seekable(input)
    with opened(input) as source:
        try:
            some = options.get("salvage") or options.get("frames") is not None
            reader = Reader(source, tolerant=bool(some))
        except TruncatedError as error:
            raise with_frames(with_seconds(error, source), source) from error
        kind = kind_named(reader.header.kind)
        chosen = choose(DECODE, kind.words, options)
        ending = f".{chosen.format}" if chosen.format else kind.decoded
        target = target_of(input, output, ending, chosen.force)
        suffix = decoded_as(target, chosen.format, kind)
        ends = Ends(input, target, chosen, codec, progress, suffix)
        about = reader.version, kind.words, reader.header.model
        logger.debug("%s: .plc version %d, %s, by %s", name_of(input), *about)
        result = kind.module("decode").decode(reader, ends)
    result.data = kept.getvalue()
    return result
