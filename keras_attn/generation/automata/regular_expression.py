"""Automata over tokens from regular expressions."""

import re

import numpy as np

from keras_attn.extras import require

# Syntax that the parser would read differently from Python's `re`, and that is rejected here. The first two
# alternatives skip valid syntax: escapes, and character classes with at most one negated class.
_REFUSED = r"""
    \\.
    | \[\^?+(?!\]) (?: \\[^DWS] | [^]\\] )* (?: \\[DWS] (?: \\[^DWS] | [^]\\] )* )? \]
    | (?P<refused> \[\^?\] | \[ | \{\} | \(\?<?[=!] | \(\?\w*- )
"""
# Maximum number of table entries in memory while tokens are processed.
_CHUNK = 1 << 23


def token_table(pattern, pieces):
    """A deterministic automaton over tokens whose joined text fully matches `pattern`; not minimal.

    Args:
        pattern: A regular expression, see `TokenAutomaton.from_regex`.
        pieces: A list of `V` strings.

    Returns:
        `(transitions, token_classes, accepting)`, see `minimal`.

    Raises:
        ValueError: If `pattern` is not supported; the message gives the reason.
    """
    return over_tokens(*_character_table(pattern, sorted(set("".join(pieces)))), pieces)


def over_tokens(characters, initial, steps, accepting, pieces):
    """An automaton over tokens, from one over the characters or bytes of their `pieces`.

    Args:
        characters: Dict from character to column.
        initial: The initial state.
        steps: Int `(states + 1, columns + 1)`, the next state. The last row is the dead state, to which the last column
            leads.
        accepting: Bool `(states,)`.
        pieces: A list of `V` strings or bytes; empty ones are never allowed.

    Returns:
        `(transitions, token_classes, accepting)`, see `minimal`.
    """
    lengths = np.array([len(piece) for piece in pieces])
    longest = max(1, lengths.max())
    # The last column leads from every state to the last row, the dead state.
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
    """An automaton over characters: `({character: column}, initial, steps, accepting)`.

    `steps` is `(states + 1, columns + 1)`. Only characters that occur in tokens have a column; the last row is the dead
    state, to which the last column leads.
    """
    machine = _machine(pattern)
    states = {state: number for number, state in enumerate(sorted(machine.states))}
    keys = {key: number for number, key in enumerate(machine.alphabet.by_transition)}
    dead = len(states)
    steps = np.full((dead + 1, len(keys) + 1), dead, np.int32)
    for state, edges in machine.map.items():
        for key, target in edges.items():
            steps[states[state], keys[key]] = states[target]
    accepting = np.isin(np.arange(dead), [states[state] for state in machine.finals])
    # The alphabet of a machine that accepts only the empty text may be empty.
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
    # The parser raises arbitrary exceptions, including `AttributeError`.
    except Exception as error:
        refused = str(error) or type(error).__name__
    raise ValueError(
        "`pattern` must not use anchors (the whole output has to match anyway), lookaround, backreferences, classes "
        "that begin with ']' or contain two of \\D, \\W and \\S, or flags other than i and s. "
        f"Received: pattern={pattern!r}, with {refused}"
    )
