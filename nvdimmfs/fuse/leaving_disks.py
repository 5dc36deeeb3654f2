"""Disks that are leaving: what the page cache still holds of them is written back before they are gone.

The kernel writes back a disk's page cache before it removes the disk (del_gendisk, block/genhd.c, Linux 6.1).  Here the
page cache is the host's: that of mappings of the disk's file, and that of the block devices over it in sandboxes.  It
can be written back only after the removal, when the host has been asked to drop its pages and the sandboxes have been
asked to remove their nodes.  So a disk that has left the tree goes on accepting data until the request that removed it
is answered, and no other store begins before: what comes next in the disk's place must not be overwritten.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from nvdimmfs.fuse.sessions import Sessions
from nvdimmfs.kernfs import BinaryFile

ReplyT = TypeVar("ReplyT")


class LeavingDisks:
    """The disks that are leaving.

    Args:
        sessions: the sandboxes, which write back what they hold before they acknowledge a removal.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._requests = 0
        self._removed_by: dict[BinaryFile, int] = {}
        self._under_way = 0
        self._store = trio.Lock()

    def request_begins(self) -> None:
        """A request begins that may remove disks and add others."""
        self._requests += 1

    def removed(self, disk: BinaryFile) -> None:
        """A disk leaves the tree."""
        self._removed_by[disk] = self._requests

    def added(self) -> None:
        """A disk was added: it may be in the place of one that an earlier request removed."""
        self._removed_by = {disk: number for disk, number in self._removed_by.items() if number == self._requests}

    def accepts(self, disk: BinaryFile) -> bool:
        """Whether a disk that was removed still accepts data.

        Also after the request, while a sandbox is behind that has stalled: until the next store.
        """
        return disk in self._removed_by and (self._under_way > 0 or self._sessions.has_unacknowledged)

    async def during(self, request: Callable[[], Awaitable[ReplyT]]) -> ReplyT:
        """Carry out a request that may remove disks, up to its answer."""
        self._under_way += 1
        try:
            return await request()
        finally:
            self._under_way -= 1

    async def one_store(self, store: Callable[[], Awaitable[ReplyT]]) -> ReplyT:
        """Carry out one store after the other.  Each ends when all sandboxes have acted on what it changed."""
        await self._take_turn()
        try:
            await self._sessions.catch_up()
            self._removed_by.clear()
            return await self.during(functools.partial(self._acted_on, store))
        finally:
            self._store.release()

    async def _acted_on(self, store: Callable[[], Awaitable[ReplyT]]) -> ReplyT:
        try:
            return await store()
        finally:
            await self._sessions.catch_up()

    async def _take_turn(self) -> None:
        """Acquire the lock: at once if it is free.  `trio.Lock.acquire` always lets other tasks run first.

        For that, the next request would be waited for in trio, which doubles the time of a store.
        """
        try:
            self._store.acquire_nowait()
        except trio.WouldBlock:
            await self._store.acquire()
