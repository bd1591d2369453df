"""Which layers of a student learn from which of a teacher, and what these layers compute."""

import contextlib

from keras import ops

from keras_attn import compat
from keras_attn.layers.transformer.stack import stacks_of
from keras_attn.ops.attention_recording import recording


def layer_pairs(student, teacher, given=None):
    """`{stack: [(layer of the student, layer of the teacher), ...]}`; layer 0 is the embeddings, `i` the `i`-th block.

    Args:
        student, teacher: Models of this package with the same stacks.
        given: Optional dict from layers of the student to layers of the teacher, for every stack. By default, layer `i`
            of `N` learns from layer `i M / N` of `M`, as in TinyBERT.

    Raises:
        ValueError: If there are no such layers.
    """
    ours, theirs = stacks_of(student), stacks_of(teacher)
    if not ours or ours.keys() != theirs.keys():
        raise ValueError(
            "`student` and `teacher` must both have the same stacks of blocks to compare layers, an encoder, a decoder "
            f"or both. Received: {list(ours)} and {list(theirs)}"
        )
    return {name: _pairs(name, stack.num_layers, theirs[name].num_layers, given) for name, stack in ours.items()}


def _pairs(name, ours, theirs, given):
    if given is None:
        if theirs % ours:
            raise ValueError(
                f"`layer_map` must say which layers of the {name} learn from which, as {ours} layers do not divide "
                f"{theirs}. Received: layer_map=None"
            )
        return [(i, i * theirs // ours) for i in range(ours + 1)]
    if not given or not all(0 <= i <= ours and 0 <= j <= theirs for i, j in given.items()):
        raise ValueError(
            f"`layer_map` must map layers from 0 to {ours} of the student's {name} to layers from 0 to "
            f"{theirs} of the teacher's. Received: layer_map={given}"
        )
    return sorted(given.items())


class Recorded:
    """The outputs and attention scores of the layers of a model during a call.

    Attributes:
        vectors: `{stack: [float (B, T, D), the input of the first block and the output of each]}`.
        masks: `{stack: bool (B, T), True at the positions that the stack reads, or None}`.
        scores: `{stack: [list of float (B, N, T, S) of each layer]}`; a decoder's layer has those of self-attention and
            of cross-attention.
    """

    def __init__(self, stacks):
        self._stacks = stacks
        self.vectors = {name: [] for name in stacks}
        self.masks = dict.fromkeys(stacks)
        self.scores = {}

    def take(self, scores):
        """Sorts the scores of a call, `{path: scores}` in the order of the calls, by stack and layer."""
        for name, stack in self._stacks.items():
            own = [x for path, x in scores.items() if path.startswith(f"{stack.path}/")]
            each = len(own) // stack.num_layers
            self.scores[name] = [own[i * each : (i + 1) * each] for i in range(stack.num_layers)]


@contextlib.contextmanager
def recorded(model, with_scores):
    """Yields a `Recorded` that holds what a call of the model in the scope computed, after the scope."""
    stacks = stacks_of(model)
    found = Recorded(stacks)

    def collecting(call, name):
        def collecting_call(x, *args, **kwargs):
            outputs, vectors = call(x, *args, **kwargs), found.vectors[name]
            vectors.extend([outputs] if vectors else [x, outputs])
            found.masks[name] = kwargs.get("inputs_mask")
            return outputs

        return collecting_call

    with contextlib.ExitStack() as scopes:
        for name, stack in stacks.items():
            for block in stack.blocks:
                scopes.enter_context(compat.overriding_call(block, collecting(block.call, name)))
        scores = scopes.enter_context(recording()) if with_scores else {}
        yield found
    found.take(scores)


def row_means(x, mask):
    """Float32 `(B,)`, the mean of each row of `(B, T)` over the positions that `mask` `(B, T)` keeps."""
    x = ops.cast(x, "float32")
    kept = ops.cast(mask, "float32")
    return ops.sum(ops.where(mask, x, 0.0), axis=-1) / ops.maximum(ops.sum(kept, axis=-1), 1.0)
