"""What the names in a query may mean."""

import re

__all__ = ["names_in"]

_NAME = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
_CHAIN = re.compile(rf"{_NAME}(?:\s*\.\s*{_NAME})*")


def names_in(query: str) -> tuple[list[str], list[str]]:
    """Names that could be those of tables, as SQL has them; and each word alone, as the catalogue has it.

    Also what stands in texts and comments: to tell that apart needs all of PostgreSQL's grammar, and a name too many does no harm.
    """
    names, words = dict[str, None](), dict[str, None]()
    for chain in _CHAIN.finditer(query):
        parts = [found[0] for found in re.finditer(_NAME, chain[0])]
        names |= dict.fromkeys([parts[0], ".".join(parts[:2])])
        words |= dict.fromkeys(map(_word, parts))
    return list(names), list(words)


def _word(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
