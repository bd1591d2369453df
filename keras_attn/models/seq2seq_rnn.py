"""Recurrent encoder-decoder model with attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import keras
from keras import ops

from keras_attn.layers import (
    AdditiveAttention,
    AttentionCell,
    AttentionRNN,
    GuidedAlignment,
    Projection,
    Recurrence,
    ScheduledSampling,
    TokenEmbedding,
)
from keras_attn.layers.base.serialization import deserialized, each_deserialized
from keras_attn.layers.recurrent.alignment import Alignment
from keras_attn.models.arguments import check_no_texts, checked_pointer_generator, symbolic_inputs
from keras_attn.models.base import AttentionModel
from keras_attn.models.seq2seq_rnn_checks import CELLS, check_arguments, check_layer
from keras_attn.ops import scan
from keras_attn.ops.arrays import add, axis_size, shape_of
from keras_attn.typing import Nest, Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig
    from keras_attn.layers import PointerGenerator
    from keras_attn.text.tokenizer import Tokenizer


@keras.saving.register_keras_serializable(package="keras_attn")
class Seq2SeqRNN(AttentionModel):
    """Recurrent encoder and decoder with attention, from source and target ids to logits.

    The first decoder layer attends to the outputs of the encoder; its context is concatenated to the inputs of all
    layers above it.

    Args:
        vocabulary_size: Rows of the embedding table `V`, at least the tokenizer's vocabulary size.
        num_layers: Number of layers in the encoder, and in the decoder.
        hidden_dim: Width `D` of embeddings and layers, per direction in a bidirectional layer.
        cell: "lstm", "gru" or "simple".
        attention: An `Alignment` layer, or a list of them, whose contexts are concatenated. Defaults to
            `AdditiveAttention(hidden_dim)`.
        num_bidirectional_layers: Number of first encoder layers that are bidirectional.
        residual_from: Optional number of a layer, counted from 1, from which on the inputs of layers are added to their
            outputs.
        dropout: Dropout rate of the inputs of each layer.
        attend_first: Whether the query is the previous output of the first decoder layer instead of the new one. See
            `AttentionCell`.
        input_feeding: Whether to concatenate the attention to the inputs of the first decoder layer.
        bridge: Whether the decoder layers start from a projection of the final outputs of the encoder layers instead of
            zeros. For a bidirectional layer, from the output of the backward direction.
        readout: The layer between the top layer and the logits: "tanh", `tanh(W [s; c])` of output and context;
            "linear", `W [s; c]`; "maxout", the maximum of each two entries of `W [s; c; y]` with the target embedding
            `y`; a Keras layer from `[s; c]` to `(B, T, D)`; or None.
        source_vocabulary_size: Rows of a separate embedding table for the source. By default, one table is shared.
        tie_output: Whether the output projection is the target table.
        scheduled_sampling: Optional `ScheduledSampling` layer: in training, replaces some inputs of the decoder by
            samples. All its layers then run token by token, and the logits are computed twice.
        guided_alignment: Optional `GuidedAlignment` layer, which adds an input `alignments` to the model and trains the
            attention, or the first one of several, on them.
        pointer_generator: Optional `PointerGenerator` layer, with which the model copies tokens of the source, by the
            scores of its attention, or of the first one of several. Not with `scheduled_sampling`.
        pad_id: Padding id. Defaults to that of the tokenizer, or 0 without one.
        tokenizer: Optional tokenizer, saved with the model.
        generation_config: Optional `keras_attn.generation.GenerationConfig`, saved with the model.
        dtype: Dtype or dtype policy of all layers.
        **kwargs: `name` and `trainable`.

    Call arguments:
        inputs: Dict of `source_ids` int32 `(B, S)` and `target_ids` int32 `(B, T)`, and optionally of boolean masks,
            False at padding: `source_mask` `(B, S)` (default `source_ids != pad_id`) and `target_mask` `(B, T)`. With
            `guided_alignment`, optionally also `alignments`, float `(B, T, S)`.

    Returns:
        Logits, float `(B, T, V)`; with `pointer_generator`, `(B, T, V + E)`.

    Raises:
        ValueError: If an argument or an input is invalid; the message names it.

    Reference:
        [Bahdanau et al., 2015](https://arxiv.org/abs/1409.0473); [Wu et al., 2016](https://arxiv.org/abs/1609.08144);
        copying [See et al., 2017](https://arxiv.org/abs/1704.04368)

    Example:

    >>> import numpy as np
    >>> from keras_attn.models import Seq2SeqRNN
    >>> model = Seq2SeqRNN(100, num_layers=2, hidden_dim=16, cell="gru")
    >>> tuple(model({"source_ids": np.array([[5, 6, 7]]), "target_ids": np.array([[2, 8]])}).shape)
    (1, 2, 100)
    """

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int = 2,
        hidden_dim: int = 512,
        *,
        cell: str = "lstm",
        attention: Alignment | Sequence[Alignment] | None = None,
        num_bidirectional_layers: int = 1,
        residual_from: int | None = None,
        dropout: float = 0.1,
        attend_first: bool = False,
        input_feeding: bool = True,
        bridge: bool = True,
        readout: str | keras.Layer | None = "tanh",
        source_vocabulary_size: int | None = None,
        tie_output: bool = True,
        scheduled_sampling: ScheduledSampling | None = None,
        guided_alignment: GuidedAlignment | None = None,
        pointer_generator: PointerGenerator | None = None,
        pad_id: int | None = None,
        tokenizer: Tokenizer | None = None,
        generation_config: GenerationConfig | None = None,
        dtype: str | keras.DTypePolicy | None = None,
        **kwargs: Any,
    ) -> None:
        sizes = {"vocabulary_size": vocabulary_size, "num_layers": num_layers, "hidden_dim": hidden_dim}
        given, readout = each_deserialized(attention), deserialized(readout)
        scheduled_sampling, guided_alignment = deserialized(scheduled_sampling), deserialized(guided_alignment)
        copying = checked_pointer_generator(pointer_generator, vocabulary_size, source_vocabulary_size)
        if copying is not None and scheduled_sampling is not None:
            raise ValueError(
                "`pointer_generator` must be given without `scheduled_sampling`. "
                f"Received: scheduled_sampling={scheduled_sampling!r}"
            )
        self.pointer_generator = copying
        policy = self._prepare(sizes, pad_id, dropout, dtype, tokenizer=tokenizer, generation_config=generation_config)
        check_arguments(given, cell, readout, num_layers, num_bidirectional_layers, residual_from)
        check_layer("scheduled_sampling", scheduled_sampling, ScheduledSampling)
        check_layer("guided_alignment", guided_alignment, GuidedAlignment)
        attention = AdditiveAttention(hidden_dim, dtype=policy, name="attention") if given is None else given
        self.hidden_dim = hidden_dim
        self._residual_from = residual_from
        self._readout = readout if isinstance(readout, str) else None
        self.scheduled_sampling, self.guided_alignment = scheduled_sampling, guided_alignment
        if scheduled_sampling is not None and not scheduled_sampling.built:
            # Used in training only, outside of the functional graph that would build it.
            scheduled_sampling.build()

        def embedding(size, name, tied=True):
            return TokenEmbedding(size, hidden_dim, scale=False, tie_weights=tied, dtype=policy, name=name)

        def new_cell():
            return CELLS[cell](hidden_dim, dtype=policy)

        def recurrence(name, both_ways=False):
            layer = Recurrence(new_cell(), return_sequences=True, return_state=True, dtype=policy, name=name)
            return keras.layers.Bidirectional(layer, dtype=policy, name=name) if both_ways else layer

        def dense(name, equation, width, activation="tanh"):
            return Projection(equation, width, bias_axes=equation[-1], activation=activation, dtype=policy, name=name)

        self.target_embedding = self.source_embedding = embedding(vocabulary_size, "embedding", tie_output)
        if source_vocabulary_size is not None:
            self.source_embedding = embedding(source_vocabulary_size, "source_embedding")
        self.encoder_layers = [recurrence(f"encoder_{i}", i < num_bidirectional_layers) for i in range(num_layers)]
        attention_cell = AttentionCell(
            new_cell(), attention, input_feeding=input_feeding, attend_first=attend_first, dtype=policy, name="cell"
        )
        self.attention_layer = AttentionRNN(attention_cell, dtype=policy, name="decoder_0")
        self.decoder_layers = [recurrence(f"decoder_{i}") for i in range(1, num_layers)]
        num_states = len(keras.tree.flatten(attention_cell.cell.state_size))
        self.bridges = [
            [dense(f"bridge_{i}_{j}", "ab,bc->ac", (hidden_dim,)) for j in range(num_states)]
            for i in range(num_layers if bridge else 0)
        ]
        if isinstance(readout, str):
            width = 2 * hidden_dim if readout == "maxout" else hidden_dim
            self.readout_dense = dense("readout", "abc,cd->abd", (None, width), "tanh" if readout == "tanh" else None)
        else:
            self.readout_dense = readout

        inputs = symbolic_inputs("source_ids", "target_ids", masks={"source_mask": 1, "target_mask": 1})
        if guided_alignment is not None:
            inputs["alignments"] = keras.Input((None, None), dtype="float32", name="alignments", optional=True)
        source_mask = self.padding_mask(inputs["source_ids"], inputs["source_mask"])
        memory, states = self._encode(inputs["source_ids"], source_mask)
        x, _, scores, features = self._decode(
            inputs["target_ids"],
            {"memory": memory, "memory_mask": source_mask, "cell_state": states[0] if bridge else None},
            states[1:] if bridge else [None] * (num_layers - 1),
            inputs["target_mask"],
            return_attention_scores=guided_alignment is not None or copying is not None,
        )
        x = self._guided(x, scores, inputs)
        if copying is None:
            outputs = self.target_embedding(x, reverse=True)
        else:
            outputs = self._copied(x, features, scores, inputs["source_ids"], inputs["target_mask"])
        config = {
            **sizes,
            "cell": cell,
            "attention": given,
            "num_bidirectional_layers": num_bidirectional_layers,
            "residual_from": residual_from,
            "attend_first": attend_first,
            "input_feeding": input_feeding,
            "bridge": bridge,
            "readout": readout,
            "source_vocabulary_size": source_vocabulary_size,
            "tie_output": tie_output,
            "scheduled_sampling": scheduled_sampling,
            "guided_alignment": guided_alignment,
            "pointer_generator": copying,
        }
        super().__init__(inputs, outputs, policy=policy, config=config, **kwargs)

    @classmethod
    def bahdanau(cls, vocabulary_size: int, **kwargs: Any) -> Self:
        """The model of Bahdanau et al.: GRU layers of width 1000, a bidirectional encoder, and a maxout readout.

        Embeddings are as wide as the layers, instead of 620. Takes other arguments by keyword.
        """
        settings = {"num_layers": 1, "hidden_dim": 1000, "cell": "gru", "attend_first": True, "readout": "maxout"}
        return cls(vocabulary_size, **{**settings, "dropout": 0.0, "tie_output": False, **kwargs})

    @classmethod
    def gnmt(cls, vocabulary_size: int, **kwargs: Any) -> Self:
        """Google's GNMT: 8 LSTM layers of width 1024, the first of the encoder bidirectional, residuals from the third.

        The attention is additive with weight normalisation; its query is the previous output of the first decoder
        layer, and all decoder layers get its context. Takes other arguments by keyword.
        """
        settings = {"num_layers": 8, "hidden_dim": 1024, "cell": "lstm", "attend_first": True, "residual_from": 3}
        settings |= {"dropout": 0.2, "bridge": False, "readout": None, "tie_output": False, **kwargs}
        if settings.get("attention") is None:
            dtype = settings.get("dtype")
            settings["attention"] = AdditiveAttention(settings["hidden_dim"], normalize=True, dtype=dtype)
        return cls(vocabulary_size, **settings)

    def encode(self, source_ids: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """Runs the encoder: int32 `(B, S)` and optional bool `(B, S)`, to float `(B, S, D)`, twice as wide if its only
        layer is bidirectional."""
        check_no_texts(source_ids, self)
        return self._encode(source_ids, self.padding_mask(source_ids, source_mask))[0]

    # The cache holds one state per row instead of one slot per token.
    has_slots = False

    def prefill(
        self, source_ids: Tensor, source_mask: Tensor | None = None, *, length: int | None = None, bounded: bool = True
    ) -> tuple[Nest, Nest]:
        """Prepares decoding from a source: the states of the decoder, and the memory that each step reads.

        Args:
            source_ids: Int32 `(B, S)`.
            source_mask: Optional bool `(B, S)`.
            length, bounded: Not used, since states support any number of target positions.

        Returns:
            `(cache, memory)` for `decode`: a tuple of states per decoder layer; keys, encoder outputs and their mask,
            with `pointer_generator` also the source.
        """
        cache, memory = self._prefill(source_ids, source_mask)
        return cache, memory if self.pointer_generator is None else (*memory, ops.cast(source_ids, "int32"))

    def _prefill(self, source_ids, source_mask, training=None):
        source_mask = self.padding_mask(source_ids, source_mask)
        encoded, bridged = self._encode(source_ids, source_mask, training)
        keys, encoded = self.attention_layer.project_memory(encoded)
        states = [self.attention_layer.start(keys, encoded, bridged[0] if bridged else None)]
        for i, layer in enumerate(self.decoder_layers, start=1):
            states.append(bridged[i] if bridged else layer.get_initial_state(axis_size(source_ids, 0)))
        return tuple(tuple(state) for state in states), (keys, encoded, source_mask)

    def decode_hidden(
        self, target_ids: Tensor, positions: Tensor, cache: Nest, memory: Nest, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, Nest]:
        """As `decode`, with the inputs of the output projection, float `(B, T, D)`, instead of logits.

        `positions` and `attention_mask` are not used, since the states contain all earlier tokens. With
        `pointer_generator`, whose probabilities depend on the memory too, these are the logits.
        """
        *memory, source_ids = (*memory, None) if self.pointer_generator is None else memory
        scored = {"return_attention_scores": source_ids is not None}
        hidden, cache, scores, features = self._decode(target_ids, _attending(memory, cache), cache[1:], **scored)
        if source_ids is not None:
            hidden = self._copied(hidden, features, scores, source_ids)
        return hidden, cache

    def _copied(self, hidden, features, scores, source_ids, mask=None):
        """Logits of tokens that are generated or copied."""
        logits = self.target_embedding(hidden, reverse=True)
        return self.pointer_generator(features, logits, _first(scores[0]), source_ids, inputs_mask=mask)

    def call(self, inputs: Nest, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        if training and self.scheduled_sampling is not None:
            return self.logits(self._hidden_of_samples(inputs))
        return super().call(inputs, training=training, mask=mask)

    def hidden_states(self, inputs: Nest, training: bool | None = None) -> Tensor:
        if training and self.scheduled_sampling is not None:
            return self._hidden_of_samples(self._all_inputs(inputs))
        return super().hidden_states(inputs, training=training)

    def alignment_layers(self) -> list[str]:
        return [attention.path for attention in self.attention_layer.cell.attentions]

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits `(B, T, V)` of what `decode_hidden` returned."""
        return hidden if self.pointer_generator is not None else self.target_embedding(hidden, reverse=True)

    def _encode(self, source_ids, source_mask, training=None):
        """`(outputs, states)`, with the initial states of each decoder layer if there is a bridge."""
        x, states = self.source_embedding(self._embedded_ids(source_ids)), []
        for i, layer in enumerate(self.encoder_layers, start=1):
            outputs, *final = layer(self.dropout(x, training=training), mask=source_mask)
            x = self._with_residual(i, x, outputs)
            if self.bridges:
                # The states of the backward direction come last.
                last = final[-len(self.bridges[0])]
                states.append(tuple(dense(last) for dense in self.bridges[i - 1]))
        return x, states

    def _decode(self, target_ids, attending, states, target_mask=None, drop=None, **options):
        """`(hidden, states, scores, features)`; `scores` is empty without `return_attention_scores` among the options.

        `drop(x, i)` applies dropout to the inputs of layer `i`. The features, by which the model decides whether to
        copy, are those of the top layer, the context and the last token; None without `pointer_generator`.
        """
        drop = drop or (lambda x, i: self.dropout(x))
        embedded = self.target_embedding(self._embedded_ids(target_ids))
        outputs, *scores, final = self.attention_layer(
            drop(embedded, 0), inputs_mask=target_mask, return_state=True, **attending, **options
        )
        finals = [final]
        x, context = outputs[..., : self.hidden_dim], outputs[..., self.hidden_dim :]
        x = self._with_residual(1, embedded, x)
        for i, (layer, state) in enumerate(zip(self.decoder_layers, states, strict=True), start=1):
            inputs = ops.concatenate([drop(x, i), context], axis=-1)
            state = None if state is None else list(state)
            outputs, *final = layer(inputs, initial_state=state, mask=target_mask)
            finals.append(tuple(final))
            x = self._with_residual(i + 1, x, outputs)
        features = None
        if self.pointer_generator is not None:
            features = ops.concatenate([x, context, embedded], axis=-1)
        if self._readout == "maxout":
            x = self.readout_dense(ops.concatenate([x, context, embedded], axis=-1))
            x = ops.maximum(x[..., : self.hidden_dim], x[..., self.hidden_dim :])
        elif self.readout_dense is not None:
            x = self.readout_dense(ops.concatenate([x, context], axis=-1), training=options.get("training"))
        return x, tuple(finals), scores, features

    def _hidden_of_samples(self, inputs):
        """Hidden states `(B, T, D)` in training with scheduled sampling."""
        cache, memory = self._prefill(inputs["source_ids"], inputs["source_mask"], training=True)
        ids = ops.cast(inputs["target_ids"], "int32")
        (batch, length), guided = shape_of(ids), inputs.get("alignments") is not None
        replaced, seed = self.scheduled_sampling.draw(ids)
        # Drawn before the loop, since updates of seeds in a loop are lost.
        ones = ops.ones((batch, length, self.hidden_dim), dtype=self.compute_dtype)
        kept = [self.dropout(ones, training=True) for _ in range(1 + len(self.decoder_layers))]

        def step(slices, state):
            time, token, replace, *kept = slices
            hidden, cache = state
            sample = self.scheduled_sampling.sample(ops.squeeze(self.logits(hidden), 1), seed.at(time))
            token = ops.expand_dims(ops.where(replace, sample, token), 1)
            hidden, cache, scores, _ = self._decode(
                token,
                _attending(memory, cache),
                cache[1:],
                drop=lambda x, i: ops.multiply(x, ops.expand_dims(kept[i], 1)),
                return_attention_scores=guided,
                training=True,
            )
            first = [_first(x) for x in scores]
            return [ops.squeeze(x, 1) for x in (hidden, *first)], (hidden, cache)

        slices = [ops.arange(length, dtype="int32"), *(_time_first(x) for x in (ids, replaced, *kept))]
        mask = inputs["target_mask"]
        mask = None if mask is None else _time_first(ops.cast(mask, "bool"))
        (hidden, *scores), _ = scan(step, slices, (ones[:, :1], cache), mask)
        return self._guided(_time_first(hidden), [_time_first(x) for x in scores], inputs)

    def _guided(self, hidden, scores, inputs):
        """The hidden states, with the loss of guided alignment if the model has one."""
        if self.guided_alignment is None or inputs["alignments"] is None:
            return hidden
        mask = self.padding_mask(inputs["target_ids"], inputs["target_mask"])
        return self.guided_alignment(hidden, _first(scores[0]), inputs["alignments"], inputs_mask=mask)

    def _with_residual(self, number, inputs, outputs):
        return outputs if self._residual_from is None or number < self._residual_from else add(inputs, outputs)


def _attending(memory, cache):
    """Arguments of the first decoder layer for `memory` and its states."""
    keys, encoded, source_mask = memory
    return {"memory_cache": (keys, encoded), "memory_mask": source_mask, "states": cache[0]}


def _first(scores):
    """The scores of the first attention."""
    return scores[0] if isinstance(scores, tuple | list) else scores


def _time_first(x):
    return ops.transpose(x, (1, 0, *range(2, len(x.shape))))
