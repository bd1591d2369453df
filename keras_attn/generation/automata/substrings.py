"""Automata over tokens that search for strings."""

import numpy as np

from keras_attn.generation.automata.regular_expression import over_tokens


def containing(strings, pieces):
    """A deterministic automaton over tokens whose joined text contains one of `strings`; not minimal.

    Args:
        strings: A tuple of strings.
        pieces: A list of `V` strings or UTF-8 bytes.

    Returns:
        `(transitions, token_classes, accepting)`, see `minimal`.
    """
    steps, accepting = _byte_table([string.encode() for string in strings])
    pieces = [piece.encode() if isinstance(piece, str) else piece for piece in pieces]
    return over_tokens({byte: byte for byte in range(256)}, 0, steps, accepting, pieces)


def _byte_table(words):
    """An Aho-Corasick automaton over bytes with absorbing accepting states."""
    children, accepts = [{}], [False]
    for word in words:
        state = 0
        for byte in word:
            if byte not in children[state]:
                children[state][byte] = len(children)
                children.append({})
                accepts.append(False)
            state = children[state][byte]
        accepts[state] = True
    dead = len(children)
    steps = np.full((dead + 1, 257), dead, np.int32)
    steps[0, :256] = 0
    # Breadth first, so that fallback states are complete before they are used.
    waiting, fallback = [0], [0] * dead
    for state in waiting:
        steps[state, :256] = steps[fallback[state], :256]
        accepts[state] |= accepts[fallback[state]]
        for byte, child in children[state].items():
            fallback[child] = steps[fallback[state], byte] if state else 0
            steps[state, byte] = child
            waiting.append(child)
    accepting = np.array(accepts)
    steps[:-1, :256][accepting] = np.flatnonzero(accepting)[:, None]
    return steps, accepting
