"""From a regular expression to an automaton over tokens of several characters."""

import re

import numpy as np

from keras_attn.extras import require

# What the parser would read differently from Python's `re`, and so has to be refused here. The first two alternatives
# step over what is harmless: escapes, and character classes without two negated ones.
_REFUSED = r"""
    \\.
    | \[\^?+(?!\]) (?: \\[^DWS] | [^]\\] )* (?: \\[DWS] (?: \\[^DWS] | [^]\\] )* )? \]
    | (?P<refused> \[\^?\] | \[ | \{\} | \(\?<?[=!] | \(\?\w*- )
"""
# Entries of the table that are held while tokens walk through it.
_CHUNK = 1 << 23


def token_table(pattern, pieces):
    """A deterministic automaton over the tokens whose texts match `pattern` whole; not minimal.

    Args:
        pattern: a regular expression, as `TokenAutomaton.from_regex` describes.
        pieces: a list of `V` strings.

    Returns:
        `(transitions, token_classes, accepting)`, see `minimal`.

    Raises:
        ValueError: `pattern` cannot be read; the message says why.
    """
    return over_tokens(*_character_table(pattern, sorted(set("".join(pieces)))), pieces)


def over_tokens(characters, initial, steps, accepting, pieces):
    """An automaton over tokens, from one over the characters, or bytes, of their `pieces`.

    Args:
        characters: dict of the column of each character.
        initial: the first state.
        steps: int `(states + 1, columns + 1)`, the next state; the last row and column lead nowhere, to the last row.
        accepting: bool `(states,)`.
        pieces: a list of `V` strings or bytes; what is empty is never allowed.

    Returns:
        `(transitions, token_classes, accepting)`, see `minimal`.
    """
    lengths = np.array([len(piece) for piece in pieces])
    longest = max(1, lengths.max())
    # A step by the last column leads from everywhere to the last row, which stands for "no way".
    dead, none = len(steps) - 1, steps.shape[1] - 1
    spelled = np.full((len(pieces), longest), none)
    places = np.arange(longest) < lengths[:, None]
    spelled[places] = [characters[character] for piece in pieces for character in piece]

    columns, token_classes = {np.full(dead, -1, np.int32).tobytes(): 0}, np.zeros(len(pieces), np.int32)
    chunk = max(1, _CHUNK // len(steps))
    for start in range(0, len(pieces), chunk):
        tokens = start + np.flatnonzero(lengths[start : start + chunk])
        states = np.tile(np.arange(dead, dtype=np.int32), (len(tokens), 1))
        for place in range(longest):
            states = steps[states, spelled[tokens, place][:, None]]
            done = lengths[tokens] == place + 1
            for token, column in zip(tokens[done], np.where(states[done] == dead, -1, states[done]), strict=True):
                token_classes[token] = columns.setdefault(column.tobytes(), len(columns))
            alive = ~done & (states != dead).any(axis=1)
            tokens, states = tokens[alive], states[alive]
    transitions = np.frombuffer(b"".join(columns), np.int32).reshape(len(columns), dead).T
    # The start state is number 0.
    order = np.arange(dead)
    order[[0, initial]] = initial, 0
    renumbered = np.append(order, -1)[transitions]
    return renumbered[order], token_classes, accepting[order]


def _character_table(pattern, characters):
    """An automaton over the characters: `{character: column}`, the start, steps `(states + 1, columns + 1)`, accepting.

    Only characters that occur in tokens have a column, and the last row and column lead nowhere.
    """
    machine = _machine(pattern)
    states = {state: number for number, state in enumerate(sorted(machine.states))}
    keys = {key: number for number, key in enumerate(machine.alphabet.by_transition)}
    dead = len(states)
    steps = np.full((dead + 1, len(keys) + 1), dead, np.int32)
    for state, ways in machine.map.items():
        for key, target in ways.items():
            steps[states[state], keys[key]] = states[target]
    accepting = np.isin(np.arange(dead), [states[state] for state in machine.finals])
    # A machine that takes the empty text alone may know no character.
    columns = {character: keys.get(machine.alphabet[character], len(keys)) for character in characters}
    return columns, states[machine.initial], steps, accepting


def _machine(pattern):
    interegular = require("interegular", "constraints")
    if not isinstance(pattern, str):
        raise ValueError(f"`pattern` must be a string. Received: pattern={pattern!r}")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"`pattern` must be a regular expression: {error}. Received: pattern={pattern!r}") from error
    matches = re.finditer(_REFUSED, pattern, re.VERBOSE | re.DOTALL)
    refused = next((match["refused"] for match in matches if match["refused"]), None)
    try:
        if refused is None:
            return interegular.parse_pattern(pattern).to_fsm(prefix_postfix=(0, 0))
    # It raises whatever it comes upon, `AttributeError` included.
    except Exception as error:
        refused = str(error) or type(error).__name__
    raise ValueError(
        "`pattern` must do without anchors (the whole output has to match anyway), lookaround, references, classes "
        "that begin with ']' or hold two of \\D, \\W and \\S, and flags other than i and s. "
        f"Received: pattern={pattern!r}, with {refused}"
    )
