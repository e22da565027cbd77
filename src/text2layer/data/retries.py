"""What fails for a moment at an address is tried again; what does not is said in a sentence.

Six tries, with waits of about .5, 1, 2, 4 and 8 seconds between them, and none after a minute. A
file that is missing, a refusal, a full store and a mistake in the address are said at once.
"""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable
from typing import TypeVar

from text2layer.errors import DataError, InputError, WriteError

T = TypeVar("T")

TRIES = 6
FIRST_DELAY = 0.5  # seconds; each is twice the one before, give or take a quarter
LONGEST = 60.0  # seconds, after which nothing is tried again: clients have waits of their own
MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
# other errors that another try does not mend
FINAL = (TypeError, AttributeError, NotImplementedError, MemoryError)
# how clients call it that nobody may read; they share no class
REFUSED = (
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError",
    "DefaultCredentialsError", "TokenRetrievalError", "NoAuthTokenError", "GatedRepoError",
    "UnauthorizedSSOTokenError",
)  # fmt: skip
REFUSING_STATUS = (401, 403)
MISSING_STATUS = (404, 410)
FULL = (errno.ENOSPC, errno.EDQUOT)
# how servers call it that they are full
FULL_WORDS = ("QuotaExceeded", "StorageFull", "InsufficientStorage", "Insufficient Storage")
BACK = "when it is back, the same command goes on"


def ask(call: Callable[[], T], address: str, *, writes: bool = False) -> T:
    """What a call to the file system of an address gives, made again where that can help.

    Args:
        call: the call; made twice, it does the same as made once.
        address: that the sentences name.
        writes: it writes, rather than reads.

    Raises:
        FileNotFoundError: what should be read is not there.
        DataError: it cannot be read: access is refused, or the server does not answer.
        WriteError: it cannot be written, for these reasons, or because the store is full or has no
            such bucket.
        InputError: nothing can be written to such an address.
    """
    begun = time.monotonic()
    for number in range(TRIES):
        try:
            return call()
        except FINAL as error:
            if writes and isinstance(error, NotImplementedError):
                raise InputError(f"Nothing can be written to '{address}'.") from None
            raise
        except Exception as raised:  # each client has its own
            met = _hidden(raised)
            if isinstance(met, MISSING) and not writes:
                raise FileNotFoundError(errno.ENOENT, "is not there", address) from None
            if isinstance(met, MISSING):
                raise WriteError(
                    f"'{address}' could not be written ({_said(met)}); make its bucket or folder "
                    "first, or choose another."
                ) from None
            last = number == TRIES - 1 or time.monotonic() - begun > LONGEST
            _give_up(met, address, writes, number + 1 if last else 0)
        time.sleep(FIRST_DELAY * 2**number * random.uniform(0.75, 1.25))
    raise AssertionError("unreachable")


def _give_up(error: Exception, address: str, writes: bool, tries: int) -> None:
    """Raise what no other try mends; after `tries`, if that is not 0, everything else too."""
    kind = WriteError if writes else DataError
    said = _said(error)
    if _is_refusal(error):
        raise kind(
            f"Access to '{address}' is refused ({said}); give credentials that may "
            f"{'write to' if writes else 'read'} it, and the same command goes on."
        ) from None
    if getattr(error, "errno", None) in FULL or any(word in said for word in FULL_WORDS):
        what = "be written" if writes else "be copied to this machine"
        raise WriteError(
            f"'{address}' could not {what}: there is no space left ({said}); free some, then the "
            "same command goes on."
        ) from None
    if tries:
        what = "could not be written" if writes else "cannot be read"
        after = "one try" if tries == 1 else f"{tries} tries"
        raise kind(f"'{address}' {what} after {after} ({said}); {BACK}.") from None


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _hidden(error: Exception) -> Exception:
    """What a client calls a missing file although the server said another thing; else the error.

    fsspec's HTTP client does so with every answer, a refusal and a server at fault included.
    """
    cause = error.__cause__ or error.__context__
    if not isinstance(error, MISSING) or not isinstance(cause, Exception):
        return error
    statuses = _statuses(cause)
    known = type(cause).__name__ in REFUSED or isinstance(cause, PermissionError)
    return cause if known or (statuses and not statuses & set(MISSING_STATUS)) else error


def _is_refusal(error: Exception) -> bool:
    return (
        isinstance(error, PermissionError)
        or type(error).__name__ in REFUSED
        or bool(_statuses(error) & set(REFUSING_STATUS))
    )


def _statuses(error: Exception) -> set[int]:
    """The status of the answer that an error is about, as its client names it; mostly one."""
    response = getattr(error, "response", None)
    found = (getattr(error, "status", None), getattr(response, "status_code", None))
    return {status for status in found if isinstance(status, int)}
