"""How much the answers of a model move when some of its weights are made smaller."""

import numpy as np

from keras_attn.export import labelled_data
from keras_attn.export.quantization.fake_quantization import quantised
from keras_attn.export.verification import comparison


class Sensitivity:
    """Answers of tasks with weights as they are, to compare with.

    Args:
        tasks: list of `Task` of one model.
        precision: name of a precision.
        levels: largest integer of an int8 weight.
        samples: see `export`.
        references: see `export`.
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
        """`(drop, cosine)` where the chosen matrices alone are quantised.

        `drop` is the largest of the tasks': that of its metric where there are references, else the part of answers
        that are no longer those of the model. `cosine` is the least between outputs.
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
                # Scores of other tokens say nothing.
                if value.dtype.kind == "f" and "tokens" not in expected:
                    cosine = min(cosine, comparison.cosine(value, actual[name]))
        if scores:
            right, total, own_right, _ = np.sum(scores, axis=0)
            return float((right - own_right) / max(total, 1)), cosine
        same, total = np.sum(counts, axis=0)
        return float(1 - same / max(total, 1)), cosine
