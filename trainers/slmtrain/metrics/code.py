"""Code by parsing: equal syntax trees for Python, equal normalised text for everything else.

Formatting, comments, quotes and redundant brackets make no difference in Python; names and the order of statements do:
code that does the same in another way is not recognised as the same. Of other languages spaces, blank lines and
trailing semicolons are ignored. A fenced block is taken out of the prose around it.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Sequence

from slmtrain.metrics.form import Form
from slmtrain.metrics.reference import Reference

_FENCE = re.compile(r"```([\w+#-]*)[^\n]*\n(.*?)(?:\n```|$)", re.DOTALL)
_STATEMENTS = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Import,
    ast.ImportFrom,
    ast.Assign,
    ast.For,
    ast.While,
    ast.If,
    ast.With,
    ast.Return,
    ast.AugAssign,
    ast.AnnAssign,
    ast.Try,
    ast.Raise,
)
_LONGEST = 200_000  # characters that Python's parser is given


def score(answer: str, reference: Reference) -> float:
    """1 for the same program, else 0."""
    return float(any(same_code(answer, text) for text in (reference.text, *reference.accepted)))


def valid(answer: str, reference: Reference, form: Form) -> bool:
    """Parses where the recorded answer parses as Python; else anything but nothing."""
    if tree_of(code_in(reference.text)) is None:
        return bool(code_in(answer).strip())
    return tree_of(code_in(answer)) is not None


def same_code(answer: str, recorded: str) -> bool:
    """
    >>> same_code("```python\\nx = ( 'a' )  # note\\n```", 'x="a"')
    True
    >>> same_code("SELECT  a\\nFROM t;", "SELECT a FROM t")
    True
    """
    got, want = code_in(answer), code_in(recorded)
    mine, theirs = tree_of(got), tree_of(want)
    if theirs is not None:
        return mine == theirs
    return normal_text(got) == normal_text(want)


def code_in(text: str) -> str:
    """The fenced blocks of a text, joined; the text itself where it has none."""
    blocks = [found[1] for found in _FENCE.findall(text)]
    return "\n".join(blocks) if blocks else text


def tree_of(code: str) -> str | None:
    """Python's syntax tree as text, without positions; None where it does not parse or is empty."""
    if len(code) > _LONGEST or not code.strip():
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser's remarks on somebody else's escapes
            return ast.dump(ast.parse(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def normal_text(code: str) -> str:
    """Without the differences that formatting makes."""
    joined = re.sub(r"\s*([(){}\[\],;=<>+*/|&!:-])\s*", r"\1", code.strip())
    return re.sub(r"\s+", " ", joined).rstrip("; ")


def looks_like_code(texts: Sequence[str]) -> bool:
    """Nine in ten are a fenced block, or Python with at least one statement that prose cannot be."""
    return bool(texts) and sum(map(_is_code, texts)) >= 0.9 * len(texts)


def _is_code(text: str) -> bool:
    if _FENCE.match(text.strip()):
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text[:_LONGEST])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, _STATEMENTS) for node in tree.body)
