"""Names that come from outside, made safe to look at."""


def display(name: str) -> str:
    r"""The name as it may be shown anywhere that escapes markup: what cannot be seen is written out.

    Control characters, marks of direction (which would turn the text around them), unassigned and surrogate code points
    become `\u202e` and the like; so does white space other than the plain space.
    """
    if name.isprintable():
        return name
    return "".join(char if char.isprintable() else _written_out(char) for char in name)


def _written_out(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
