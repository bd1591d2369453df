"""The names and numbers of classes, shared by data sets, models, exports and their references."""

import re
import reprlib
from collections.abc import Mapping, Set

_INTEGER = re.compile("-?(0|[1-9][0-9]*)")
_BOOLEANS = (["False", "True"], ["false", "true"])
MOST_NUMBERED = 1_000_000


class Labels:
    """The class names of a classifier, in order.

    A label is the name of a class, or its number if no name is a number. For two classes with other names, `False` and
    `True` are the numbers 0 and 1. Classes named `False` and `True` are matched in upper and lower case.

    Args:
        names: List of names. Integers and booleans are converted to strings.

    Attributes:
        names: List of str.

    Raises:
        ValueError: If `names` is not a list, is empty, or has duplicates.

    Example:

    >>> from keras_attn.labels import Labels
    >>> labels = Labels(["bad", "good"])
    >>> labels.number("good"), labels.number("0"), Labels(["1", "2"]).number("1")
    (1, 0, 0)
    >>> Labels.found(["2", "1", "10"]).number("10"), Labels.found(["b", "a"]).number("b")
    (10, 1)
    """

    def __init__(self, names):
        if isinstance(names, (str, bytes, Mapping, Set)) or not hasattr(names, "__getitem__"):
            raise ValueError(
                f"`labels` must be a list of names, in the order of the classes. Received: labels={names!r}"
            )
        self.names = [str(name) for name in names]
        self._numbers = {name: number for number, name in enumerate(self.names)}
        if not self.names or len(self._numbers) < len(self.names):
            raise ValueError(f"`labels` must be unique, and not empty. Received: labels={names}")
        self.has_numbers = any(_INTEGER.fullmatch(name) for name in self.names)
        self._booleans = self._numbers_of_booleans()

    @classmethod
    def found(cls, labels):
        """Infers classes from labels: integers are class numbers, booleans are 0 and 1, and names are sorted.

        Raises:
            ValueError: If an integer is not a valid class number.
        """
        found = set(labels)
        for booleans in _BOOLEANS:
            if found <= set(booleans):
                return cls(booleans)
        if not all(map(_INTEGER.fullmatch, found)):
            return cls(sorted(found))
        least, most = min(map(int, found)), max(map(int, found))
        if least < 0 or most >= MOST_NUMBERED:
            raise ValueError(
                "Integer labels must be class numbers, from 0 on; give `labels` for other integers. "
                f"Received: {least if least < 0 else most}"
            )
        return cls.numbered(most + 1)

    @classmethod
    def numbered(cls, count):
        """Classes without names."""
        return cls([str(number) for number in range(count)])

    @property
    def are_numbered(self):
        """Whether the name of each class is its number."""
        return all(name == str(number) for number, name in enumerate(self.names))

    @property
    def are_the_same_everywhere(self):
        """Whether data with only some of these labels would give them the same numbers."""
        return self.are_numbered or self.names in _BOOLEANS

    def number(self, label):
        """The class number of a label, a str.

        Raises:
            ValueError: If there is no such class.
        """
        number = self._numbers.get(label)
        if number is None:
            number = self._booleans.get(label.lower())
        if number is None and not self.has_numbers and _INTEGER.fullmatch(label):
            number = int(label)
        if number is None or not 0 <= number < len(self.names):
            raise ValueError(f"label {label!r} is not one of {self}")
        return number

    def _numbers_of_booleans(self):
        names = [name.lower() for name in self.names]
        if sorted(names) == ["false", "true"]:
            return {name: number for number, name in enumerate(names)}
        is_one_a_boolean = "false" in names or "true" in names
        return {"false": 0, "true": 1} if len(names) == 2 and not is_one_a_boolean and not self.has_numbers else {}

    def agrees(self, other):
        """Whether classes have the same numbers in other `Labels`. A class without a name matches any name."""
        for one, two in ((self, other), (other, self)):
            if one.are_numbered and (two.are_numbered or (len(one.names) <= len(two.names) and not two.has_numbers)):
                return True
        return self.names == other.names

    def __str__(self):
        return reprlib.repr(self.names) if len(self.names) > 20 else repr(self.names)


def labels_of(source):
    """The `Labels` of an object, such as a model or data set, if its `labels` is a list of unique names; else None."""
    if isinstance(source, Labels):
        return source
    names = getattr(source, "labels", None)
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        return None
    return Labels(names) if len(set(names)) == len(names) else None


def check_agreement(**sources):
    """Raises a ValueError if two objects, such as a model and a data set, have `labels` in different orders."""
    known = [(name, labels) for name, source in sources.items() if (labels := labels_of(source)) is not None]
    for i, (name, labels) in enumerate(known):
        for other_name, other in known[:i]:
            if not labels.agrees(other):
                raise ValueError(
                    f"`{name}` must number classes as `{other_name}` does: create it with the same `labels`. "
                    f"Received: {labels} and {other}"
                )
