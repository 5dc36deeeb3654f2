"""The border between model and FUSE: whatever happens behind it, the kernel gets an answer and the mount lives on."""

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

#: Errors up to this number travel through FUSE (fuse_dev_do_write, fs/fuse/dev.c, Linux 6.1).  Those above are the
#: kernel's own, such as ENOTSUPP; a reply that carries one is dropped, and its client waits for ever.
_LARGEST_ERRNO = 511


class Bordered(Protocol):
    """Who has handlers that answer across the border.

    Attributes:
        kernel_cache: what a handler's changes to the tree leave untrue in the kernel's memory.
        bugs: unexpected exceptions, for tests that want none; None to keep none.
    """

    kernel_cache: KernelCache
    bugs: list[Exception] | None

    def run_due(self) -> None:
        """Do what the machine's clock says is due."""


OwnerT = TypeVar("OwnerT", bound=Bordered)
ParametersT = ParamSpec("ParametersT")
AnswerT = TypeVar("AnswerT")


def answered(
    handler: Callable[Concatenate[OwnerT, ParametersT], AnswerT],
) -> Callable[Concatenate[OwnerT, ParametersT], Coroutine[object, object, AnswerT]]:
    """Make a request handler for pyfuse3 of a plain method.

    What is due by now is done before.  The method runs in one go, so the engine never does two things at once.  A
    `KernelError` (or a FUSEError) is the answer it carries.  An OSError is the host's refusal to keep the bytes of
    media: its errno is the answer, and stands in the log.  Any other exception would make pyfuse3 give up the mount: it
    is logged with its traceback and answered EIO.  Either way the kernel forgets what the method made untrue before it
    hears the answer.
    """

    @functools.wraps(handler)
    async def handle(self: OwnerT, /, *args: ParametersT.args, **kwargs: ParametersT.kwargs) -> AnswerT:
        self.run_due()
        try:
            return handler(self, *args, **kwargs)
        except FUSEError:
            raise
        except KernelError as refusal:
            raise _translated(self, handler.__name__.lstrip("_"), refusal) from None
        except OSError as failure:
            refused = refused_by_host(failure)
            log.warning("%s answers %s", handler.__name__.lstrip("_"), refused)
            raise _translated(self, handler.__name__.lstrip("_"), refused) from None
        except Exception as bug:
            raise _reported(self, handler.__name__.lstrip("_"), bug) from None
        finally:
            if self.kernel_cache.outdated:
                await self.kernel_cache.forget_outdated()

    return handle


def _translated(owner: Bordered, request: str, error: KernelError) -> FUSEError:
    if 0 < error.errno <= _LARGEST_ERRNO:
        return FUSEError(error.errno)
    return _reported(owner, request, error)


def _reported(owner: Bordered, request: str, bug: Exception) -> FUSEError:
    """Log a bug once, with its traceback; the client gets EIO."""
    log.error("a bug in nvdimmfs: %s answers EIO", request, exc_info=bug)
    if owner.bugs is not None:
        owner.bugs.append(bug)
    return FUSEError(errno.EIO)
