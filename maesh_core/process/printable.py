"""Text that others wrote, made fit for a terminal and for a log that is read line by line.

Names of objects, file names, and what a server or a command said may hold escape sequences, line ends and marks that
turn the direction of writing. Takes any text, gives text whose every character is printable. Pure.
"""


def show_line(text: str) -> str:
    """Show text on one line: white space is one space, and other unprintable characters are escaped (`\\x1b`)."""
    return escape_unprintable(" ".join(text.split()))


def show_lines(text: str) -> str:
    """Show text with its line feeds, and with no other unprintable character."""
    return text if text.isprintable() else "\n".join(map(escape_unprintable, text.split("\n")))


def escape_unprintable(text: str) -> str:
    """Escape every unprintable character, line ends included (`\\n`), as a Python literal has it."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
