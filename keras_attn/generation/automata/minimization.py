"""Minimisation of automata, in NumPy."""

import numpy as np


def minimal(transitions, token_classes, accepting):
    """The minimal deterministic automaton that is equivalent to the given one, with initial state 0.

    Unreachable and dead states are removed, equivalent states are merged, and equivalent tokens share a class; class 0
    has no transitions. States are numbered in breadth-first order and classes by their first token, so the table is
    canonical.

    Args:
        transitions: Int `(states, classes)`, the next state, or -1.
        token_classes: Int `(V,)`, the class of each token.
        accepting: Bool `(states,)`.

    Returns:
        The minimal three arrays, and `distances`, int32 `(states,)`, the minimum number of tokens to an accepting
        state. There are no states if the language is empty.
    """
    used, token_classes = np.unique(token_classes, return_inverse=True)
    transitions = transitions[:, used]
    distances = _distances(transitions, accepting)
    transitions = np.where(distances[transitions] < 0, -1, transitions)  # -1 looks up itself, the last entry
    distances = distances[:-1]
    if distances[0] < 0:
        return np.zeros((0, 1), np.int32), np.zeros_like(token_classes), accepting[:0], distances[:0]

    states = _in_order(transitions)
    transitions, accepting = _renumbered(transitions, states, len(distances)), accepting[states]
    labels = _equal_states(transitions, accepting)
    _, first = np.unique(labels, return_index=True)
    transitions, accepting = np.append(labels, -1)[transitions[first]], accepting[first]

    class_of = _labels_of_rows(np.ascontiguousarray(np.vstack([np.full(len(first), -1), transitions.T])))
    token_classes = class_of[1:][token_classes]
    ordered, first_token, token_classes = np.unique(np.append(0, token_classes), return_index=True, return_inverse=True)
    by_token = np.argsort(first_token)
    token_classes = np.argsort(by_token)[token_classes][1:]
    _, first_column = np.unique(class_of, return_index=True)
    columns = first_column[ordered[by_token]]
    transitions = np.hstack([np.full((len(first), 1), -1), transitions])[:, columns]
    states = _in_order(transitions)
    transitions, accepting = _renumbered(transitions, states, len(first)), accepting[states]
    distances = _distances(transitions, accepting)[:-1]
    return transitions.astype(np.int32), token_classes.astype(np.int32), accepting, distances


def _distances(transitions, accepting):
    """Steps to an accepting state, or -1 if none is reachable; with an additional entry for state -1."""
    sources, classes = np.nonzero(transitions >= 0)
    targets = transitions[sources, classes]
    sources, targets = np.divmod(np.unique(sources * len(transitions) + targets), len(transitions))
    distances = np.full(len(transitions) + 1, -1, np.int32)
    distances[:-1][accepting] = 0
    for steps in range(len(transitions)):
        found = sources[(distances[targets] == steps) & (distances[sources] < 0)]
        if not found.size:
            break
        distances[found] = steps + 1
    return distances


def _in_order(transitions):
    """The states reachable from 0, breadth first, in order of the classes."""
    order, seen = [0], np.zeros(len(transitions), bool)
    seen[0] = True
    for state in order:
        row = transitions[state]
        targets, first = np.unique(row[row >= 0], return_index=True)
        targets = targets[np.argsort(first)]
        targets = targets[~seen[targets]]
        seen[targets] = True
        order += targets.tolist()
    return np.array(order)


def _renumbered(transitions, states, count):
    """The rows of `states`, with states renumbered in this order."""
    numbers = np.full(count + 1, -1)
    numbers[states] = np.arange(len(states))
    return numbers[transitions[states]]


def _equal_states(transitions, accepting):
    """Moore's partition refinement: one label per state, equal for equivalent states, by first occurrence."""
    labels, count = _labels_of_rows(accepting[:, None]), 0
    while labels.max() + 1 > count:
        count = labels.max() + 1
        labels = _labels_of_rows(np.column_stack([labels, np.append(labels, -1)[transitions]]))
    return labels


def _labels_of_rows(rows):
    """Labels equal rows alike, by first occurrence. Compares bytes, which is much faster than sorting long rows."""
    known = {}
    return np.array([known.setdefault(row.tobytes(), len(known)) for row in rows])
