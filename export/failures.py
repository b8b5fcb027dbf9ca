"""What can go wrong between a client and a server, each in one sentence."""

import re

from pipeline.data.formats import escaped

# User and password of an address.
_CREDENTIALS = re.compile(r"(?<=//)[^/\s@]*@")


class RequestFailed(ValueError):
    """The server cannot be reached or refuses; the message says which server, what it was asked and why."""


class TryAgain(RequestFailed):
    """Another attempt may succeed: the server was not there, is not ready, or has too much to do.

    Attributes:
        wait: seconds that the server asks to wait before; None: it does not say.
    """

    def __init__(self, message: str, wait: float | None = None):
        super().__init__(message)
        self.wait = wait


class OutOfTime(RequestFailed):
    """No answer within the time that was given."""


class NotServed(RequestFailed):
    """The server has no such model or version."""


class BadAnswer(RequestFailed):
    """What came is no answer to what was asked."""


def failure(target: str, model: object, code: str, details: str, wait: float | None = None) -> RequestFailed:
    """What a status means.

    Args:
        target: address of the server.
        model: what was asked of it.
        code: name of the status, as of gRPC.
        details: the server's words.
        wait: see TryAgain.
    """
    reason = quoted(details).rstrip(".") or "no reason given"
    # A message that is too large is so at each attempt.
    busy = code == "RESOURCE_EXHAUSTED" and "larger than max" not in reason
    if code == "UNAVAILABLE" or busy:
        asked = "" if wait is None else f" (it asks to wait {wait:.3g} s)"
        return TryAgain(f"{target} is {'too busy' if busy else 'not available'}: {reason}{asked}.", wait)
    if code in ("DEADLINE_EXCEEDED", "CANCELLED"):
        return out_of_time(target, model)
    if code == "NOT_FOUND":
        return NotServed(f"{target} does not serve {model}: {reason}.")
    return RequestFailed(f"{target} refused the request to {model} ({code}): {reason}.")


def out_of_time(target: str, model: object) -> OutOfTime:
    """The sentence of a timeout."""
    return OutOfTime(f"{target} gave no answer for {model} in the time allowed: raise the timeout or ask for less.")


def quoted(words: str) -> str:
    """Words of somebody else as part of a sentence: on one line, of bounded length, without credentials."""
    return escaped(_CREDENTIALS.sub("", " ".join(words[:10_000].split())[:300]))
