"""Sizes for the free axes of a model's inputs, found by calling the model: as unequal as it allows."""

import itertools

# Candidate divisors of sizes, for strides and patches. Images start large: for images smaller than a kernel, Keras'
# convolutions differ from all runtimes.
STEPS, IMAGE_STEPS = (1, 2, 4, 8, 16, 32), (16, 32, 14, 28, 8, 4, 2, 1)
UNEQUAL = tuple(size for size in range(3, 200, 2) if all(size % divisor for divisor in range(3, size, 2)))
SMALL = tuple(range(2, 2 + len(UNEQUAL)))
# For each case, the index of the first size, and the exponent of two of the batch size.
CASES = ((0, 0), (1, 2), (2, 1))
MOST_CALLS = 60


class MadeUpSizes:
    """The free axes that must have the same size, and sizes with which the model runs.

    An axis is a pair of an input's name and the index of the axis.

    Args:
        axes: List of axes.
        runs: Function from a dict of sizes by axis to whether the model runs with them.
        groups: Lists of axes that are known to have the same size. By default, they are searched.
        images: The axes that are heights, widths and depths.

    Attributes:
        groups: Lists of axes that have the same size; different groups may have different ones.
        cases: Dicts from axes to sizes; none if no sizes were found.
    """

    def __init__(self, axes, runs, groups=None, images=()):
        self.groups, self.cases, self._runs, self._images = [[axis] for axis in axes], [], runs, set(images)
        steps = [(step, 1) for step in IMAGE_STEPS] if images else []
        candidates = itertools.product([*steps, *zip(STEPS, STEPS, strict=True)], (UNEQUAL, SMALL))
        guesses = _guesses(axes) if groups is None else [groups]
        for guess, rule in itertools.product(guesses, candidates):
            if runs(self._assigned(guess, rule)):
                self.groups = guess if groups is not None else self._split(guess, rule)
                self.cases = self._cases(rule)
                return

    def _split(self, groups, rule):
        """The finest groups with which the model runs."""
        found, calls = [], 0
        groups = [list(group) for group in groups]
        while groups:
            first, *others = groups.pop(0)
            subsets = (s for count in range(len(others)) for s in itertools.combinations(others, count))
            for subset in subsets:
                rest = [axis for axis in others if axis not in subset]
                calls += 1
                if calls <= MOST_CALLS and self._runs(self._assigned([*found, [first, *subset], rest, *groups], rule)):
                    others = list(subset)
                    groups.insert(0, rest)
                    break
            found.append([first, *others])
        return found

    def _cases(self, rule):
        cases = [(self._assigned(self.groups, rule, *case), case) for case in CASES]
        # Larger sizes may exceed the positions or the pooling of the model.
        return [x if self._runs(x) else self._assigned(self.groups, rule, 0, case[1]) for x, case in cases]

    def _assigned(self, groups, rule, first=0, power=1):
        """Sizes of all axes, equal within a group and different between groups; `first` changes their order."""
        (image_step, step), sizes = rule
        lengths = [group for group in groups if any(number for _, number in group)]
        assigned = {}
        for i, group in enumerate(lengths if first % 2 == 0 else lengths[::-1], first):
            size = sizes[i % len(sizes)] * (step if self._images.isdisjoint(group) else image_step)
            assigned.update(dict.fromkeys(group, size))
        powers = (2**i for i in itertools.count(power) if 2**i not in assigned.values())
        for group in groups:
            if group not in lengths:
                assigned.update(dict.fromkeys(group, next(powers)))
        return assigned


def _guesses(axes):
    """Groups of axes, from the batch alone to all of them."""
    batch, rest = [a for a in axes if a[1] == 0], [a for a in axes if a[1] > 0]
    by_number = [[a for a in rest if a[1] == number] for number in sorted({a[1] for a in rest})]
    guesses = [[batch, *([axis] for axis in rest)], [batch, *by_number], [batch, rest], [axes]]
    guesses = [[group for group in guess if group] for guess in guesses]
    return [guess for i, guess in enumerate(guesses) if guess not in guesses[:i]]
