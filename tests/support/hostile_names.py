"""Names of hosts that are up to no good."""

NAMES = [
    "<script>document.title='pwned'</script>",
    "</script><script>document.title='pwned'</script>",
    '"><img src=x onerror="document.title=\'pwned\'">',
    "' onmouseover='document.title=1",
    "](javascript:document.title='pwned')",
    "[x](https://example.org) `code` **bold** | cell | ~~gone~~",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "<!--",
    "<b>bold</b> &amp; &lt;i&gt;",
    "\u202egpj.exe",
    "line\nbreak\ttab\x00nul\u2028separator",
    "../../etc/passwd",
    "https://example.org/?a=b",
    "büro/3 – 日本 שלום",  # noqa: RUF001
]
