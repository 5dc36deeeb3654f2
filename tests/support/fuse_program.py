"""The life of a program of tests/support that serves a FUSE file system."""

from __future__ import annotations

import pyfuse3
import trio


def serve(operations: pyfuse3.Operations, mountpoint: str, options: set[str]) -> None:
    """Mount it, print a line, and serve it until it is unmounted or this process is interrupted."""
    pyfuse3.init(operations, mountpoint, options)
    try:
        trio.run(_serve)
    finally:
        pyfuse3.close(unmount=True)


async def _serve() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pyfuse3.main)
        await trio.lowlevel.checkpoint()
        print("mounted", flush=True)
