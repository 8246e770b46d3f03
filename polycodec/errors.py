# SPDX-License-Identifier: Apache-2.0
"""Every error a user can meet, and the exit code the command line gives it.

    CodecError ─┬─ UsageError        2   options that contradict each other
                ├─ InputError        3   missing, unreadable, unsupported input
                ├─ BitstreamError ─┬ 4   the bytes are not what they should be
                │                  ├─ TruncatedError
                │                  ├─ ChecksumError
                │                  └─ VersionError
                └─ ModelError ─────┬ 5   no such model, or not the same weights
                                   ├─ UnknownNameError
                                   ├─ DigestMismatchError
                                   └─ DeterminismError

Messages have one form: *what happened; expected / found; what to do*.
This module is a leaf: it imports nothing of polycodec, everybody may import it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CodecError(Exception):
    """Base of all errors polycodec raises on purpose."""

    exit_code = 1


class UsageError(CodecError):
    """Options or arguments that are wrong or contradict each other."""

    exit_code = 2


class InputError(CodecError):
    """An input that is missing, unreadable, or of a kind not supported."""

    exit_code = 3


class BitstreamError(CodecError):
    """Bytes that are not a valid stream of this format."""

    exit_code = 4


class TruncatedError(BitstreamError):
    """The stream ends before what it announced."""


class ChecksumError(BitstreamError):
    """A stored checksum does not match the bytes."""


class VersionError(BitstreamError):
    """A format version this build does not know."""


class ModelError(CodecError):
    """A model is unknown, broken, or does not fit the stream."""

    exit_code = 5


class UnknownNameError(ModelError):
    """A registered name that does not exist; the message lists the nearest."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
        """Build the message from the unknown ``name`` and the ``known`` ones."""
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:6]
        hint = ", ".join(near) if near else "none are registered"
        return cls(f"unknown {kind} '{name}'; nearest: {hint}")


class DigestMismatchError(ModelError):
    """The file was made with other weights than those at hand."""


class DeterminismError(ModelError, BitstreamError):
    """What was decoded, or computed on the way, differs from the encoder's."""
