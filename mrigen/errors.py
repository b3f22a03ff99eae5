"""The ways in which mrigen stops on purpose."""


class UsageError(Exception):
    """A mistake in what the user gave: one line naming the file or option, the fault and the remedy.

    The command line prints it without a traceback and exits with code 2.

    Examples:
        >>> import mrigen as mg
        >>> try:
        ...     mg.masks.exact_random(12, acceleration=3, acs_lines=9)
        ... except mg.UsageError as error:
        ...     print(str(error).split(":")[0])
        acceleration 3 measures 4 of 12 lines
    """


class NonFiniteLossError(RuntimeError):
    """A training step produced a loss that is NaN or infinite; the state was saved before raising."""


class LostProcessError(RuntimeError):
    """Another process of the same run has ended, so that this one cannot go on."""


def one_line(text: str) -> str:
    """Text with everything unprintable escaped: file names may hold line breaks and control codes."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
