"""Beam search in the graph: the best sequences per row with their scores."""

import dataclasses

from keras_attn.export.tasks import generate

NUM_BEAMS = 4


class Task(generate.Task):
    """Exports the model's `generation_config`, with a beam search if it has another strategy.

    `tokens` is int32 `(batch, beams, target_length)`, best first, and `sequence_scores` float32 `(batch, beams)`.
    """

    name = "beam"

    @property
    def config(self):
        from keras_attn.generation import BeamSearch

        config = super().config
        if isinstance(config.strategy, BeamSearch) and config.strategy.num_sequences > 1:
            return config
        chosen = config.strategy if isinstance(config.strategy, BeamSearch) else BeamSearch(NUM_BEAMS)
        return dataclasses.replace(config, strategy=dataclasses.replace(chosen, num_sequences=chosen.num_beams))
