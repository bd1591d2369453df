"""Effect of quantised weights on the outputs of a model."""

import numpy as np

from keras_attn.export import labelled_data
from keras_attn.export.quantization.fake_quantization import quantised
from keras_attn.export.verification import comparison


class Sensitivity:
    """Compares the outputs of tasks with those of the original weights.

    Args:
        tasks: List of `Task` of one model.
        precision: Name of a precision.
        levels: Largest integer of an int8 weight.
        samples: See `export`.
        references: See `export`.
    """

    def __init__(self, tasks, precision, levels, samples=None, references=None):
        self.precision, self.levels = precision, levels
        self._answers = []
        for task in tasks:
            cases = labelled_data.cases(task, samples)
            outputs = [task.reference(case) for case in cases]
            answers = labelled_data.answers(task, samples, references) or [None] * len(cases)
            self._answers.append((task, list(zip(cases, outputs, answers, strict=True))))

    def effect(self, chosen):
        """`(drop, cosine)` if only the chosen matrices are quantised.

        `drop` is the largest over all tasks: the drop of accuracy if there are references, else the share of outputs
        that change. `cosine` is the smallest cosine similarity of an output.
        """
        with quantised(chosen, self.precision, self.levels):
            measured = [self._task_effect(task, answers) for task, answers in self._answers]
        return max(drop for drop, _ in measured), min(cosine for _, cosine in measured)

    @staticmethod
    def _task_effect(task, answers):
        counts, scores, cosine = [], [], 1.0
        for case, expected, references in answers:
            actual = task.reference(case)
            counts.append(task.agreement(case, expected, actual))
            if references is not None:
                scores.append((*task.score(expected, references), *task.score(actual, references)))
            for name, value in expected.items():
                # Scores of different tokens are not comparable.
                if value.dtype.kind == "f" and "tokens" not in expected:
                    cosine = min(cosine, comparison.cosine(value, actual[name]))
        if scores:
            right, total, own_right, _ = np.sum(scores, axis=0)
            return float((right - own_right) / max(total, 1)), cosine
        same, total = np.sum(counts, axis=0)
        return float(1 - same / max(total, 1)), cosine
