"""The client of a warm server: it has the server carry out this process's command line.

It loads a handful of small modules and none of the standard library's large ones: `socket`, `signal`, `json` and
`argparse` take as long as the rest of a warm `nvdimmfs run`.  docs/reference/warm-server.md describes the protocol.
"""

import os
import sys

from nvdimmfs import __version__
from nvdimmfs.warm import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn

try:  # the parts of `socket`, `signal` and `json` that are written in C
    import _socket
    import fcntl
    from _json import encode_basestring_ascii

    if not TYPE_CHECKING:
        import _signal
except ImportError:
    _socket = None  # type: ignore[assignment]

#: The version of the protocol.
PROTOCOL = 1

#: The commands that a server carries out.
COMMANDS = ("mount", "start", "run")

#: How long a server may take to accept a request, in seconds.
_LONGEST_ANSWER = 5.0

_LONGEST_MESSAGE = 4096
_ACCEPTED = b'{"accepted": true}'
_GO = b'{"go": true}'
_STATUS = b'{"status": '

#: The code of a signal that the kernel sends, as a terminal does (include/uapi/asm-generic/siginfo.h).
_SI_KERNEL = 0x80


_FAILED = 1


def carry_out(arguments: list[str]) -> None:
    """Have a warm server carry out a command line, and exit as it did.  Returns when this process has to do it."""
    if not _may_ask(arguments):
        return
    connection = _connected()
    if connection is None:
        return
    blocked: set[int] = set()
    try:
        connection.settimeout(_LONGEST_ANSWER)
        _ask(connection, arguments)
        message, ancillary, _, _ = connection.recvmsg(_LONGEST_MESSAGE, _socket.CMSG_SPACE(8), _socket.MSG_CMSG_CLOEXEC)
        if message != _ACCEPTED or not ancillary:
            return
        files = ancillary[0][2]
        process, control = int.from_bytes(files[:4], sys.byteorder), int.from_bytes(files[4:8], sys.byteorder)
        blocked = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signals())
        fcntl.fcntl(control, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(control, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
        connection.send(_GO)
    except OSError:
        if blocked:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, blocked)
        return
    _wait(_socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, control), process)


def _may_ask(arguments: list[str]) -> bool:
    """Whether a server can do what this process would do."""
    if not arguments or arguments[0] not in COMMANDS or _socket is None:
        return False
    if None in (sys.stdin, sys.stdout, sys.stderr):  # a closed file, whose number another file would get
        return False
    if os.environ.get(place.VARIABLE) == place.NO:
        return False
    if any("/dev/fd/" in argument or "/proc/self/fd/" in argument for argument in arguments):  # of this process
        return False
    if arguments[0] == "mount":
        return not any(argument.startswith("--f") for argument in arguments)  # --foreground
    # A command that a server starts has no controlling terminal.
    return not any(map(os.isatty, range(3)))


def _connected() -> "_socket.socket | None":
    """A connection to this user's server; None when there is none."""
    path = place.directory()
    if not path:
        return None
    try:
        directory = place.opened(path)
    except OSError:
        return None
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        connection.settimeout(_LONGEST_ANSWER)
        connection.connect(place.address(directory))
        credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        if int.from_bytes(credentials[4:8], sys.byteorder) == os.geteuid():
            return connection
    except OSError:
        pass
    finally:
        os.close(directory)
    connection.close()
    return None


def _ask(connection: "_socket.socket", arguments: list[str]) -> None:
    """Send the request: a file with its text, the standard files and the working directory.  OSError."""
    text = os.memfd_create("request")
    directory = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        request = _request(arguments).encode()
        if os.write(text, request) != len(request):
            raise OSError
        files = b"".join(file.to_bytes(4, sys.byteorder) for file in (text, 0, 1, 2, directory))
        connection.sendmsg([b'{"request": %d}' % PROTOCOL], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
    finally:
        os.close(text)
        os.close(directory)


def _request(arguments: list[str]) -> str:
    """The request as JSON."""
    quoted = encode_basestring_ascii
    environment = ", ".join(f"{quoted(name)}: {quoted(value)}" for name, value in os.environ.items())
    words = ", ".join(map(quoted, arguments))
    codecs = ", ".join(quoted(f"{file.encoding}:{file.errors}") for file in (sys.stdin, sys.stdout, sys.stderr))
    return (
        f'{{"arguments": [{words}], "environment": {{{environment}}}, "interpreter": {quoted(interpreter())}, '
        f'"codecs": [{codecs}]}}'
    )


def interpreter() -> str:
    """What must be the same in the server: the interpreter, its settings, and the program."""
    settings = (*sys.flags, *sys.warnoptions, *sys._xoptions.items(), sys.getfilesystemencoding())
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    return f"{__version__} {package} {sys.version} {sys.prefix} {settings}"


def _signals() -> set[int]:
    """The signals to wait for: those that are passed on, and SIGIO for a message."""
    names = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM", "WINCH", "CONT", "TSTP", "IO")
    return {getattr(_signal, f"SIG{name}") for name in names}


def _wait(control: "_socket.socket", process: int) -> "NoReturn":
    """Pass on signals until the process of the server has ended, and exit as it did."""
    signals = _signals()
    while True:
        try:
            message = control.recv(_LONGEST_MESSAGE)
        except BlockingIOError:
            _pass_on(_signal.sigwaitinfo(signals), control, process)
            continue
        except OSError:
            message = b""
        if message.startswith(_STATUS):
            _exit(int(message[len(_STATUS) : -1]))
        sys.stderr.write("nvdimmfs: the warm server was killed\n")
        _flush_and_exit(_FAILED)


def _pass_on(received: "_signal.struct_siginfo", control: "_socket.socket", process: int) -> None:
    number = received.si_signo
    if number == _signal.SIGIO:
        return
    stops = number == _signal.SIGTSTP
    try:
        if received.si_code == _SI_KERNEL or number in (_signal.SIGTSTP, _signal.SIGCONT):
            # A terminal signals a group, and the group of the command is not this process's.
            control.send(b'{"signal": %d}' % (_signal.SIGSTOP if stops else number))
        else:
            _signal.pidfd_send_signal(process, number)
    except OSError:
        return  # it has ended
    if stops:
        os.kill(os.getpid(), _signal.SIGSTOP)


def _exit(status: int) -> "NoReturn":
    """Exit with the status of another process, or by the signal that ended it, without a core dump."""
    number = status & 0x7F
    if not number:
        _flush_and_exit(status >> 8)
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (_signal.SIGKILL, _signal.SIGSTOP):
        _signal.signal(number, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    _flush_and_exit(128 + number)


def _flush_and_exit(status: int) -> "NoReturn":
    sys.stderr.flush()
    os._exit(status)
