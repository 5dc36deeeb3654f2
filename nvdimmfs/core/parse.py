"""How the kernel parses the bytes that were written to a file.

A store gets the bytes of one write(2).  The kernel appends a NUL and mostly treats them as a C string, so that bytes
after the first NUL are ignored.
"""

from __future__ import annotations

import errno
import re
import uuid

from nvdimmfs.errors import KernelError
from nvdimmfs.units import as_signed

#: The characters that the kernel's isspace() accepts: ASCII white space and the no-break space (lib/ctype.c).
WHITE_SPACE = b" \t\n\v\f\r\xa0"

_DIGITS = {
    8: re.compile(rb"[0-7]+"),
    10: re.compile(rb"[0-9]+"),
    16: re.compile(rb"[0-9a-fA-F]+"),
}
_LEADING_NUMBER = re.compile(rb"(-?)([0-9]+)")
_UUID = re.compile(rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_SEPARATED_UUID = re.compile(rb"(?:[0-9a-fA-F]{2}[-:\n\0]?){16}")
#: Length of a UUID's text (UUID_STRING_LEN, include/linux/uuid.h).
UUID_TEXT_LENGTH = 36

_TRUE = (b"y", b"Y", b"1")
_FALSE = (b"n", b"N", b"0")
#: The first letters of `true` and `false`.
_TRUE_LETTER = (b"t", b"T")
_FALSE_LETTER = (b"f", b"F")


def c_string(data: bytes) -> bytes:
    """The bytes before the first NUL."""
    return data.partition(b"\0")[0]


def line(data: bytes) -> str:
    """The C string without one trailing newline: what sysfs_streq compares (lib/string_helpers.c, Linux 6.1)."""
    return c_string(data).removesuffix(b"\n").decode("latin-1")


def _without_prefix(text: bytes) -> tuple[int, bytes]:
    """The base that a number's prefix selects, and the number without the prefix."""
    if text[:2].lower() == b"0x" and _DIGITS[16].match(text, 2):
        return 16, text[2:]
    return (8 if text.startswith(b"0") and text != b"0" else 10), text


def parse_unsigned(data: bytes, bits: int = 64, base: int = 0) -> int:
    """A number as kstrtoull reads it with base 0, 10 or 16 (lib/kstrtox.c, Linux 6.1).

    One leading `+`, digits, one trailing newline; nothing else.  With base 0, a prefix `0x` makes it hexadecimal and
    a prefix `0` octal; with base 16, a prefix `0x` is optional.  ERANGE when the digits need more than 64 bits,
    regardless of what follows them; EINVAL for anything else that is not a number; ERANGE past `bits`.
    """
    text = c_string(data).removeprefix(b"+")
    if base == 0:
        base, text = _without_prefix(text)
    elif base == 16 and text[:2].lower() == b"0x":
        text = text[2:]
    digits = _DIGITS[base].match(text)
    value = int(digits[0], base) if digits else 0
    if value >> 64:
        raise KernelError(errno.ERANGE, "more than 64 bits")
    if not digits or text[digits.end() :] not in (b"", b"\n"):
        raise KernelError(errno.EINVAL, "not an unsigned number")
    if value >> bits:
        raise KernelError(errno.ERANGE, f"more than {bits} bits")
    return value


def parse_unsigned_or_einval(data: bytes, bits: int = 64, base: int = 0) -> int:
    """As `parse_unsigned`, but EINVAL for a number that is too large, too."""
    try:
        return parse_unsigned(data, bits, base)
    except KernelError as refusal:
        raise KernelError(errno.EINVAL, refusal.reason) from refusal


def parse_signed(data: bytes, bits: int = 64, base: int = 0) -> int:
    """A number as kstrtoll reads it: as `parse_unsigned`, or a `-` and such a number without a sign of its own.

    EINVAL for anything else, ERANGE past `bits` (lib/kstrtox.c, Linux 6.1).
    """
    negative = data.startswith(b"-")
    if negative and data[1:2] == b"+":
        raise KernelError(errno.EINVAL, "a number has one sign")
    value = parse_unsigned(data.removeprefix(b"-"), base=base)
    if negative:
        value = -value
    if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        raise KernelError(errno.ERANGE, f"more than {bits} bits with the sign")
    return value


def scan_signed(data: bytes) -> int:
    """A number as sscanf finds it for `%ld`: after white space; what follows it is ignored.

    It wraps around at 64 bits.  EINVAL if there is no number (lib/vsprintf.c, Linux 6.1).
    """
    found = _LEADING_NUMBER.match(c_string(data).lstrip(WHITE_SPACE))
    if not found:
        raise KernelError(errno.EINVAL, "no number")
    value = -int(found[2]) if found[1] else int(found[2])
    return as_signed(value)


def parse_bool(data: bytes, *, with_letters: bool = True) -> bool:
    """A truth value as kstrtobool reads it: by its first character, two for on and off (lib/kstrtox.c, Linux 6.1).

    EINVAL for anything else.

    Args:
        data: what was written.
        with_letters: whether t and f are truth values, as the first letters of true and false.
    """
    if data.startswith(_TRUE) or (with_letters and data.startswith(_TRUE_LETTER)):
        return True
    if data.startswith(_FALSE) or (with_letters and data.startswith(_FALSE_LETTER)):
        return False
    second = data[1:2]
    if data[:1] in (b"o", b"O"):
        if second in (b"n", b"N"):
            return True
        if second in (b"f", b"F"):
            return False
    raise KernelError(errno.EINVAL, "not a truth value")


def parse_uuid(data: bytes) -> uuid.UUID:
    """A UUID as uuid_parse reads it: 36 characters; what follows is ignored (lib/uuid.c, since Linux 5.8).

    EINVAL for anything else.
    """
    text = data[:UUID_TEXT_LENGTH]
    if not _UUID.fullmatch(text):
        raise KernelError(errno.EINVAL, "not a UUID")
    return uuid.UUID(text.decode("ascii"))


def parse_separated_uuid(data: bytes) -> uuid.UUID:
    """A UUID as nd_uuid_parse read it: pairs of digits, with or without a `-`, `:`, newline or NUL after each.

    What follows the sixteenth is ignored; EINVAL for anything else (drivers/nvdimm/core.c, up to Linux 5.7).
    """
    found = _SEPARATED_UUID.match(data)
    if not found:
        raise KernelError(errno.EINVAL, "not a UUID")
    return uuid.UUID(re.sub(rb"[^0-9a-fA-F]", b"", found[0]).decode("ascii"))


def select_list(choices: tuple[int, ...], current: int) -> str:
    """Choices in one line, the current one in brackets, each followed by a space (drivers/nvdimm/core.c, Linux 6.1)."""
    return "".join(f"[{choice}] " if choice == current else f"{choice} " for choice in choices) + "\n"


def select(data: bytes, choices: tuple[int, ...]) -> int:
    """The choice that was written.  EINVAL for any other value."""
    value = parse_unsigned(data)
    if value not in choices:
        raise KernelError(errno.EINVAL, f"{value} is not one of {choices}")
    return value
