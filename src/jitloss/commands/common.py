"""What commands share: the error that ends a command, and the lookup of a loss by name."""

import difflib

import jitloss

__all__ = ["CommandError", "find_loss", "reason", "summary"]


class CommandError(Exception):
    """Bad input: one readable line on stderr, and exit code 2."""


def reason(error: OSError) -> str:
    """The system's own message, for the middle of a sentence."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


def find_loss(name: str) -> jitloss.Loss:
    """The shipped loss of that name; if there is none, the error suggests similar names."""
    if name not in jitloss.LOSSES:
        close = difflib.get_close_matches(name, jitloss.LOSSES, n=3, cutoff=0.65)
        close = close or [known for known in jitloss.LOSSES if name and name.lower() in known][:3]
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(jitloss.LOSSES)}"
        raise CommandError(f"no loss is called {name!r}; {hint}")
    return jitloss.LOSSES[name]


def summary(loss: jitloss.Loss) -> str:
    """The first paragraph of a loss's docstring, on one line."""
    return " ".join(str(loss.value.__doc__).partition("\n\n")[0].replace("``", "").split())
