"""Makes untrusted text safe for a terminal and for a log that is read line by line.

Names of objects, file names, and output of servers or commands may contain escape sequences, line ends and characters
that change the writing direction. Takes any text, returns text with printable characters only. Pure.
"""


def show_line(text: str) -> str:
    """Show text on one line: white space becomes one space, and other unprintable characters are escaped (`\\x1b`)."""
    return escape_unprintable(" ".join(text.split()))


def show_lines(text: str) -> str:
    """Show text with its line feeds; other unprintable characters are escaped."""
    return text if text.isprintable() else "\n".join(map(escape_unprintable, text.split("\n")))


def escape_unprintable(text: str) -> str:
    """Escape every unprintable character, line ends included (`\\n`), as a Python literal has it."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
