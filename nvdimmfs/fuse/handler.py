"""FUSE request handlers: any exception becomes a reply to the kernel, and the mount stays alive."""

from __future__ import annotations

import errno
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from pyfuse3 import FUSEError

from nvdimmfs.errors import KernelError, refused_by_host
from nvdimmfs.fuse.kernel_cache import KernelCache

log = logging.getLogger(__name__)

#: The largest errno that a FUSE reply may carry (fuse_dev_do_write, fs/fuse/dev.c, Linux 6.1).  Larger ones, such as
#: ENOTSUPP, are internal to the kernel: it drops a reply with one, and the caller waits forever.
_LARGEST_ERRNO = 511


class HandlerHost(Protocol):
    """A class whose methods are request handlers.

    Attributes:
        kernel_cache: collects the cached names and attributes that a handler's changes to the tree made stale.
        bugs: collects unexpected exceptions, for tests that fail on them; None to collect none.
    """

    kernel_cache: KernelCache
    bugs: list[Exception] | None

    def run_due(self) -> None:
        """Run the work that is due on the machine's clock."""


HostT = TypeVar("HostT", bound=HandlerHost)
ParametersT = ParamSpec("ParametersT")
ReplyT = TypeVar("ReplyT")


def fuse_handler(
    handler: Callable[Concatenate[HostT, ParametersT], ReplyT],
) -> Callable[Concatenate[HostT, ParametersT], Coroutine[object, object, ReplyT]]:
    """Make a request handler for pyfuse3 out of a synchronous method.

    Work that is due on the machine's clock runs first.  Then the method runs without interruption, so the engine never
    handles two requests at once.  A `KernelError` (or a FUSEError) becomes a reply with its errno.  An OSError means
    that the host refused to store the bytes of media: the reply carries its errno, and a warning is logged.  Any other
    exception would make pyfuse3 end the mount: it is logged with its traceback, and the reply is EIO.  In each case,
    the kernel's stale cache entries are invalidated before the reply is sent.
    """
    request = handler.__name__.lstrip("_")

    @functools.wraps(handler)
    async def handle(self: HostT, /, *args: ParametersT.args, **kwargs: ParametersT.kwargs) -> ReplyT:
        self.run_due()
        try:
            return handler(self, *args, **kwargs)
        except FUSEError:
            raise
        except KernelError as refusal:
            raise _error_reply(self, request, refusal) from None
        except OSError as failure:
            refused = refused_by_host(failure)
            log.warning("%s fails with %s", request, refused)
            raise _error_reply(self, request, refused) from None
        except Exception as bug:
            raise _report_bug(self, request, bug) from None
        finally:
            if self.kernel_cache.stale is not None:
                await self.kernel_cache.invalidate_stale()

    return handle


def _error_reply(host: HandlerHost, request: str, error: KernelError) -> FUSEError:
    if 0 < error.errno <= _LARGEST_ERRNO:
        return FUSEError(error.errno)
    return _report_bug(host, request, error)


def _report_bug(host: HandlerHost, request: str, bug: Exception) -> FUSEError:
    """Log a bug with its traceback and return the reply, EIO."""
    log.error("a bug in nvdimmfs: %s fails with EIO", request, exc_info=bug)
    if host.bugs is not None:
        host.bugs.append(bug)
    return FUSEError(errno.EIO)
