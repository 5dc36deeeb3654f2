"""Copies of media."""

from __future__ import annotations

from nvdimmfs.media.memory import MemoryMedia


def copy_of(media: MemoryMedia) -> MemoryMedia:
    """A medium with the same bytes, which goes its own way."""
    copied = MemoryMedia(media.size)
    for offset, piece in media.contents():
        copied.write(offset, piece)
    return copied
