"""Deterministic automata over tokens."""

from __future__ import annotations

import base64
import functools
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import keras
import numpy as np

from keras_attn.argument_checks import check_positive
from keras_attn.generation.automata.minimization import minimal
from keras_attn.generation.automata.regular_expression import token_table
from keras_attn.generation.automata.substrings import containing
from keras_attn.typing import Array


@keras.saving.register_keras_serializable(package="keras_attn")
class TokenAutomaton:
    """A minimal deterministic finite automaton over tokens, with initial state 0.

    Immutable. Two automata are equal if they accept the same sequences of tokens. The transition table is dense: states
    times classes of equivalent tokens.

    Args:
        transitions: Int `(states, classes)`, the next state, or -1 for no transition.
        token_classes: Int `(V,)`, the class of each token of the vocabulary.
        accepting: Bool `(states,)`, the states in which a sequence may end.

    Attributes:
        transitions: Int32 `(states, classes)` of the minimal automaton. An accepting state can be reached from every
            state. Tokens of class 0 are never allowed.
        token_classes: Int32 `(V,)`.
        accepting: Bool `(states,)`.
        distances: Int32 `(states,)`, the minimum number of tokens to an accepting state.
        vocabulary_size: `V`.

    Raises:
        ValueError: If an argument is invalid, or no sequence is accepted.

    Example:

    >>> from keras_attn.generation import TokenAutomaton
    >>> automaton = TokenAutomaton.from_regex("(ab)+", ["", "a", "b", "ba"])
    >>> automaton.accepts([1, 2]), automaton.accepts([1, 3, 2]), automaton.accepts([1, 1])
    (True, True, False)
    >>> automaton.distances
    array([2, 1, 0], dtype=int32)
    """

    def __init__(self, transitions: Array, token_classes: Array, accepting: Array) -> None:
        arrays = [np.asarray(x) for x in (transitions, token_classes, accepting)]
        transitions, token_classes, accepting = arrays
        if transitions.ndim != 2 or accepting.dtype != bool or accepting.shape != transitions.shape[:1]:
            raise ValueError(
                "`transitions` must be (states, classes) and `accepting` bool (states,). "
                f"Received: shapes {transitions.shape} and {accepting.shape}, the latter of {accepting.dtype}"
            )
        _check_inside("transitions", transitions, -1, len(accepting))
        _check_inside("token_classes", token_classes, 0, transitions.shape[1])
        self.transitions, self.token_classes, self.accepting, self.distances = minimal(*arrays)
        if not len(self.accepting):
            raise ValueError("`transitions` must lead from state 0 to an accepting state. Received: none that do")
        for array in (self.transitions, self.token_classes, self.accepting, self.distances):
            array.flags.writeable = False

    @classmethod
    def from_regex(cls, pattern: str, pieces: Sequence[str]) -> Self:
        """An automaton that accepts token sequences whose joined text fully matches a regular expression.

        Requires the extra `constraints`. `\\d`, `\\w` and `\\s` are ASCII only. Anchors, lookaround and backreferences
        are not supported.

        Args:
            pattern: String in the syntax of `re`.
            pieces: List of `V` strings, the text of each token; "" for special tokens, which are never allowed.

        Returns:
            A `TokenAutomaton`.

        Raises:
            ValueError: If `pattern` is not supported, no sequence of `pieces` matches it, or `pieces` is not a list of
                strings.
            ImportError: If the extra is not installed.
        """
        if isinstance(pieces, str) or not len(pieces) or not all(isinstance(piece, str) for piece in pieces):
            raise ValueError(f"`pieces` must be a list of one string per token. Received: {_shortened(pieces)}")
        return cls._of_language(
            token_table(pattern, pieces), f"`pattern` must match a text that `pieces` can spell. Received: {pattern!r}"
        )

    @classmethod
    def from_phrases(cls, phrases: Iterable[Sequence[int]], vocabulary_size: int) -> Self:
        """An automaton that accepts a set of sequences: a trie with shared suffixes.

        Args:
            phrases: List of sequences of token ids, without end tokens.
            vocabulary_size: `V`.

        Returns:
            A `TokenAutomaton`.

        Raises:
            ValueError: If `phrases` is empty or contains anything but ids in the vocabulary.
        """
        check_positive(vocabulary_size=vocabulary_size)
        phrases = [np.asarray(phrase, dtype=None if len(phrase) else np.int32) for phrase in phrases]
        if not phrases:
            raise ValueError("`phrases` must hold at least one sequence of token ids. Received: none")
        for phrase in phrases:
            if phrase.ndim != 1:
                raise ValueError(f"`phrases` must hold sequences of token ids. Received: {_shortened(phrase)}")
            _check_inside("phrases", phrase, 0, vocabulary_size)
        used, classes = np.unique(np.concatenate(phrases), return_inverse=True)
        token_classes = np.zeros(vocabulary_size, np.int32)
        token_classes[used.astype(int)] = np.arange(len(used)) + 1
        trie, ends, first = [{}], set(), 0
        for phrase in phrases:
            state = 0
            for token_class in classes[first : first + len(phrase)].tolist():
                if token_class not in trie[state]:
                    trie[state][token_class] = len(trie)
                    trie.append({})
                state = trie[state][token_class]
            ends.add(state)
            first += len(phrase)
        transitions = np.full((len(trie), len(used) + 1), -1, np.int32)
        for state, edges in enumerate(trie):
            transitions[state, np.fromiter(edges, int, len(edges)) + 1] = list(edges.values())
        return cls(transitions, token_classes, np.isin(np.arange(len(trie)), list(ends)))

    @classmethod
    def from_function(
        cls,
        next_tokens: Callable[[tuple[int, ...]], Iterable[int]],
        vocabulary_size: int,
        end_id: int | tuple[int, ...],
        max_prefixes: int = 100_000,
    ) -> Self:
        """An automaton from a function of the tokens so far, which is called once for every possible prefix.

        This is the counterpart of Hugging Face's `prefix_allowed_tokens_fn` for graphs and artefacts, which cannot call
        Python. The function gets the generated tokens only, neither the prompt nor the row index.

        Args:
            next_tokens: Function of a tuple of tokens, initially `()`, that returns the ids that may follow, including
                `end_id` if the sequence may end.
            vocabulary_size: `V`.
            end_id: The end token, or a tuple of several.
            max_prefixes: Maximum number of prefixes.

        Returns:
            A `TokenAutomaton`.

        Raises:
            ValueError: If `next_tokens` allows no sequence, too many, or an id outside the vocabulary.
        """
        ends = set(end_id) if isinstance(end_id, tuple) else {end_id}
        prefixes, phrases = [()], []
        for prefix in prefixes:
            following = set(next_tokens(prefix))
            phrases += [prefix] if following & ends else []
            prefixes += [(*prefix, int(token)) for token in sorted(following - ends)]
            if len(prefixes) > max_prefixes:
                raise ValueError(
                    "`next_tokens` must allow finitely many sequences; describe loops by a `transitions` table or a "
                    f"regular expression. Received: more than max_prefixes={max_prefixes} prefixes"
                )
        if not phrases:
            raise ValueError("`next_tokens` must allow `end_id` after some sequence. Received: no such sequence")
        return cls.from_phrases(phrases, vocabulary_size)

    @classmethod
    def containing(cls, strings: Sequence[str], pieces: Sequence[str] | Sequence[bytes]) -> Self:
        """An automaton that accepts token sequences whose joined text contains one of several strings.

        Args:
            strings: Tuple of strings.
            pieces: List of `V` strings or UTF-8 bytes, the text of each token; empty for special tokens.

        Returns:
            A `TokenAutomaton`.

        Raises:
            ValueError: If `strings` is invalid, or no sequence of `pieces` spells one of them.
        """
        if not isinstance(strings, tuple) or not strings or not all(isinstance(x, str) and x for x in strings):
            raise ValueError(f"`strings` must be a tuple of non-empty strings. Received: strings={strings!r}")
        return cls._of_language(
            containing(strings, pieces), f"`strings` must contain one that `pieces` can spell. Received: {strings!r}"
        )

    @classmethod
    def _of_language(cls, table, message):
        try:
            return cls(*table)
        except ValueError as error:
            raise ValueError(message) from error

    @property
    def vocabulary_size(self) -> int:
        return len(self.token_classes)

    def accepts(self, tokens: Iterable[int]) -> bool:
        """Whether a complete sequence of ids is accepted."""
        state = 0
        for token in tokens:
            state = self.transitions[state, self.token_classes[token]]
            if state < 0:
                return False
        return bool(self.accepting[state])

    def get_config(self) -> dict[str, Any]:
        return {
            "transitions": [len(self.accepting), _packed(self.transitions)],
            "token_classes": _packed(self.token_classes),
            "accepting": np.flatnonzero(self.accepting).tolist(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        states, transitions = config["transitions"]
        accepting = np.isin(np.arange(states), config["accepting"])
        return cls(_unpacked(transitions).reshape(states, -1), _unpacked(config["token_classes"]), accepting)

    @functools.cached_property
    def _key(self):
        return self.transitions.tobytes(), self.token_classes.tobytes(), self.accepting.tobytes()

    def __eq__(self, other):
        return type(other) is type(self) and other._key == self._key

    def __hash__(self):
        return hash(self._key)

    def __repr__(self):
        states, classes = self.transitions.shape
        return f"<TokenAutomaton of {states} states and {classes} classes of {self.vocabulary_size} tokens>"


def _packed(array):
    return base64.b64encode(zlib.compress(array.astype("<i4").tobytes(), 9)).decode()


def _unpacked(text):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i4").astype(np.int32)


def _check_inside(name, array, least, limit):
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"`{name}` must hold integers. Received: {_shortened(array)}")
    if array.size and not least <= array.min() <= array.max() < limit:
        raise ValueError(f"`{name}` must be in [{least}, {limit}). Received: from {array.min()} to {array.max()}")


def _shortened(value):
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
