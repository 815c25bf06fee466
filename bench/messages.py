"""Every text that the program can say, once, with its place: to be read as a stranger would.

    python bench/messages.py            # or a part of it: python bench/messages.py seg/train.py

Lists the strings of the source that hold a blank, but docstrings; {x} stands for what is put in.
tests/test_messages.py holds them to the words that BAD names.
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BAD = {  # a word that puzzles: what to say instead
    r'\bcan not\b': 'cannot',
    r'\bmends?\b': 'fixes, correct',
}


def texts(path):
    """(line, text) of each string of a Python file, but docstrings and parts of others."""
    tree = ast.parse(path.read_text('utf-8'))
    inner = {
        part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
    }
    inner |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    for node in ast.walk(tree):
        if node in inner:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = (
                part.value if isinstance(part, ast.Constant) else f'{{{ast.unparse(part.value)}}}'
                for part in node.values
            )
            yield node.lineno, ''.join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def messages(paths=()):
    """(file, line, text) of all that a person may read."""
    paths = [*map(Path, paths)] or [*ROOT.glob('*.py'), *sorted(ROOT.glob('seg/**/*.py'))]
    for path in paths:
        for line, text in sorted(texts(path)):
            if re.search(r'[a-z]{2,}.* |: ', text):
                yield path, line, ' '.join(text.split())


if __name__ == '__main__':
    for path, line, text in messages(sys.argv[1:]):
        print(f'{path.resolve().relative_to(ROOT)}:{line}: {text}')
