"""Base class of the models."""

from __future__ import annotations

import os
import types
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self

import keras
import numpy as np
from keras import ops
from keras.dtype_policies import DTypePolicyMap

from keras_attn import compat
from keras_attn.argument_checks import check_positive, check_vocabulary
from keras_attn.generation.generate import generate
from keras_attn.generation.generative_model import GenerationDefaults
from keras_attn.layers import PaddingMask, TokenEmbedding
from keras_attn.layers.base.composite import Composite
from keras_attn.layers.base.projection import packed_weights
from keras_attn.layers.base.serialization import deserialized, serialized
from keras_attn.models.arguments import check_no_texts, symbolic_inputs
from keras_attn.models.features import AttachMask, FeatureMask, passes_masks
from keras_attn.models.text_settings import TextSettings, check_extension, with_ids_of_tokenizer
from keras_attn.ops.arrays import shape_of
from keras_attn.ops.boolean_mask import check_boolean
from keras_attn.plain_numbers import PlainNumbers
from keras_attn.typing import Nest, Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig


# The embedding of each input of ids.
_TABLES = {"token_ids": "embedding", "source_ids": "source_embedding", "target_ids": "target_embedding"}


class AttentionModel(PlainNumbers, TextSettings, Composite, GenerationDefaults, compat.CloneHook, keras.Model):
    """A functional `keras.Model` with optional inputs that may be omitted, and with its tokenizer.

    The tokenizer and the generation settings are part of the config, so that a single `.keras` file maps text to text.

    A subclass calls `_prepare` first, creates its layers, and then calls this constructor.

    Args:
        inputs: Dict of `keras.Input` by name.
        outputs: Outputs of the functional model.
        policy: Dtype policy of the layers, from `_prepare`.
        config: Arguments of the subclass's constructor, without those of `_prepare` and `keras.Model`.
        checkpoint: Optional `keras_attn.pretrained.Checkpoint` that the model was read from, saved with the model.
        **kwargs: `name`.
    """

    # Whether the cache of `decode` has one slot per token, which `attention_mask` may hide.
    has_slots = True
    # Whether all inputs have the same number of rows.
    has_one_batch = True
    # The layer that embeds inputs other than token ids, and the specs of its inputs by name.
    embeddings = None
    features: Mapping[str, keras.KerasTensor] = types.MappingProxyType({})
    # The layer by which the model copies tokens of the source.
    pointer_generator = None
    # Name of the optional padding mask of the features.
    _feature_mask = "padding_mask"

    def __init__(
        self,
        inputs: dict[str, keras.KerasTensor],
        outputs: Nest,
        *,
        policy: Any,
        config: dict[str, Any],
        trainable: bool = True,
        checkpoint: Any = None,
        **kwargs: Any,
    ) -> None:
        self._checkpoint = deserialized(checkpoint)
        try:
            super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        except ValueError as error:
            if "names should be unique" not in str(error):
                raise
            raise ValueError(
                "`embeddings`, `head` and `inputs` must have other names than the layers of the model; pass the layer "
                f"another `name=`. Received: {str(error).partition(chr(10))[0]}"
            ) from error
        if self.tokenizer is not None:
            self.check_tokenizer(self.tokenizer)
        if not trainable:
            # With True, Keras' constructor would also unfreeze layers that were passed frozen.
            self.trainable = False
        self._policy = policy
        # Keras decides by this policy whether to scale the loss; a map only has its default policy.
        compat.set_dtype_policy(self, policy.default_policy if isinstance(policy, DTypePolicyMap) else policy)
        self._config = config
        self._body = None

    def _prepare(self, sizes, pad_id, dropout, dtype, *, tokenizer, **carried):
        """Creates the common layers, stores tokenizer and settings, and returns the dtype policy of the layers.

        `sizes` is a dict of positive integers, with `vocabulary_size` if the model reads or writes tokens.
        """
        check_positive(**sizes)
        carried = {"tokenizer": tokenizer, **carried}
        carried = {name: deserialized(value) for name, value in carried.items()}
        texts = carried["tokenizer"], carried.get("generation_config")
        rows, more = sizes.get("vocabulary_size"), self._extended_size
        pad_id = self._keep_texts(rows and rows + more, pad_id, *texts)
        check_extension(self.tokenizer, rows, more)
        policy = keras.dtype_policies.get(dtype) if dtype is not None else keras.config.dtype_policy()
        for name in carried.keys() - {"tokenizer", "generation_config"}:
            setattr(self, name, carried[name])
        self._carried = tuple(carried)
        self.padding_mask = self._mask_layer(pad_id, dtype=policy, name="token_mask")
        # Built here, since a language model uses it only in generation.
        self.padding_mask.build((None, None))
        if self.features:
            self.attach_mask = AttachMask(dtype=policy, name="attach_mask")
        self.dropout = keras.layers.Dropout(dropout, dtype=policy, name="dropout")
        return policy

    def _mask_layer(self, pad_id, **kwargs):
        """The layer that makes the padding mask of the inputs."""
        return (FeatureMask if self.features else PaddingMask)(pad_id, **kwargs)

    def __call__(self, inputs: Nest, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(self._all_inputs(inputs), *args, **kwargs)

    def call(self, inputs: Nest, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        # `keras.layers.TimeDistributed` does not use `__call__`.
        return super().call(self._all_inputs(inputs), training=training, mask=mask)

    def compute_output_spec(self, inputs: Nest, training: bool | None = None, mask: Tensor | None = None) -> Nest:
        # Keras would compare the shapes of all inputs with those of the model, also of inputs that are None.
        inputs = self._all_inputs(inputs)
        return compat.symbolic_outputs(self, inputs)

    def compute_output_shape(self, input_shape: Nest) -> Nest:
        shapes = input_shape if isinstance(input_shape, dict) else {self._required_inputs()[0]: input_shape}
        inputs = {name: keras.KerasTensor(x, dtype=self.input[name].dtype) for name, x in shapes.items() if x}
        return keras.tree.map_structure(lambda x: x.shape, self.compute_output_spec(inputs))

    def check_clone(self) -> None:
        """Raises a ValueError, since `keras.models.clone_model` returns a plain functional model for any class."""
        name = type(self).__name__
        raise ValueError(
            f"`keras.models.clone_model` must not be given a {name}: the clone would have no `generate`, and require "
            f"all optional inputs. Use `{name}.from_config(model.get_config())`, and `set_weights` for the same "
            f"weights. Received: {self.name}"
        )

    def _all_inputs(self, inputs):
        check_no_texts(inputs, self)
        if not isinstance(inputs, dict):
            required = self._required_inputs()
            if len(required) > 1 or isinstance(inputs, list | tuple):
                flat = keras.tree.flatten(inputs)
                self._check_masks({x.name: value for x, value in zip(self.inputs, flat, strict=False)})
                return inputs
            inputs = {required[0]: inputs}
        self._check_inputs(inputs)
        return {name: inputs.get(name) for name in self.input}

    def _required_inputs(self):
        return [name for name, x in self.input.items() if not compat.operation_of(x).optional]

    def _check_inputs(self, inputs):
        unknown = sorted(set(inputs) - set(self.input))
        if unknown:
            raise ValueError(f"`inputs` may hold {sorted(self.input)}. Received unknown: {unknown}")
        for name, value in inputs.items():
            rank, shape = len(self.input[name].shape), getattr(value, "shape", None)
            if value is not None and (shape is None or len(shape) != rank):
                received = type(value).__name__ if shape is None else f"shape {tuple(shape)}"
                raise ValueError(f"`{name}` must be a tensor of rank {rank}. Received: {received}")
        self._check_masks(inputs)

    def _check_masks(self, inputs):
        for name, value in inputs.items():
            # Keras would cast a float mask.
            if self.input[name].dtype == "bool":
                check_boolean(name, value)

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As `keras.Model.fit`, with a warning about its faults on several replicas."""
        self.bind_labels(x)
        if self.distribute_strategy.num_replicas_in_sync > 1 and (faults := self._faults_of_fit()):
            warnings.warn(
                f"On several replicas, `fit` {'; '.join(faults)}. `keras_attn.training.Trainer` does not.", stacklevel=2
            )
        return super().fit(x, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.predict`."""
        # Keras would only say that it does not know the type of data.
        check_no_texts(x, self)
        return super().predict(x, *args, **kwargs)

    def quantize(self, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.quantize`; LoRA of `keras_attn.pretrained.enable_lora` must be merged before."""
        if found := [layer.path for layer in compat.layers_of(self) if getattr(layer, "lora_as_matrix", False)]:
            # Before any layer is quantised.
            raise ValueError(f"`merge_lora` must precede `quantize`. Received LoRA in: {found[:4]}")
        super().quantize(*args, **kwargs)

    def _faults_of_fit(self):
        """The results of Keras that differ between several replicas and one."""
        optimizer = self.optimizer
        updater = getattr(optimizer, "inner_optimizer", optimizer)
        drops = any(getattr(layer, "rate", None) for layer in compat.layers_of(self))
        faults = {
            "clips each replica's gradient by itself": getattr(updater, "global_clipnorm", None),
            "takes the mean of the replicas' means, whatever their numbers of tokens": hasattr(self.loss, "total"),
            "applies an overflow on one replica to the weights": optimizer is not updater,
            "drops the same numbers on every replica": drops,
        }
        return [fault for fault, is_there in faults.items() if is_there]

    def generate(
        self,
        inputs: Sequence[str] | Tensor,
        max_length: int | None = None,
        config: GenerationConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        """Generates from `inputs`. See `keras_attn.generation.generate`."""
        return generate(self, inputs, max_length=max_length, config=config, **kwargs)

    @property
    def vocabularies(self) -> dict[str, int]:
        """Vocabulary size of each input of ids by name. The prompt input comes first."""
        more = self._extended_size
        return {name: getattr(self, table).input_dim + more for name, table in _TABLES.items() if name in self.input}

    @property
    def _extended_size(self):
        """The number of tokens that can only be copied."""
        return 0 if self.pointer_generator is None else self.pointer_generator.extended_size

    def _embedded_ids(self, ids):
        """The ids by which ids of the vocabulary are embedded."""
        if not self._extended_size:
            return ids
        return self.pointer_generator.embedded_ids(ids, self.target_embedding.input_dim)

    @property
    def prompt_specs(self) -> dict[str, keras.KerasTensor]:
        """See `GenerationDefaults.prompt_specs`."""
        if not self.features:
            return super().prompt_specs
        return {name: self.input[name] for name in (*self.features, self._feature_mask) if name in self.input}

    def check_prompt(self, inputs: Tensor, max_length: int) -> None:
        """Raises a ValueError if the model cannot generate `max_length` tokens from `inputs`, a batch of prompts."""
        if not self.features:
            check_vocabulary(next(iter(self.vocabularies.values())), inputs=inputs)

    def _symbolic_inputs(self, ids, *others, masks, optional_ids=(), choices=False):
        """`(tensors, first, mask)`: all inputs by name, what the embeddings read, and the mask of that.

        Features, and their mask only if the embeddings pass it on, replace the input `ids`. With `choices`, each
        example has several texts, on a second axis.
        """
        if self.features and not passes_masks(self.embeddings):
            masks = {name: rank for name, rank in masks.items() if name != self._feature_mask}
        read = tuple(self.features) or (ids,)
        every = others if self.features else (ids, *others)
        options = {"optional_ids": optional_ids, "features": self.features, "choices": choices}
        tensors = symbolic_inputs(*every, masks=masks, **options)
        first = tensors[read[0]] if len(read) == 1 else {name: tensors[name] for name in read}
        mask = tensors.get(self._feature_mask)
        return tensors, first, mask if self.features else self.padding_mask(first, mask)

    def _embed_inputs(self, inputs, mask, table):
        """`(vectors, mask)` of token ids; for features the mask is attached to the vectors, and None here."""
        if not self.features:
            check_no_texts(inputs, self)
            return table(self._embedded_ids(inputs)), self.padding_mask(inputs, mask)
        if not isinstance(inputs, dict):
            return self.embeddings(self.attach_mask(inputs, mask)), None
        first = next(iter(self.features))
        return self.embeddings({**inputs, first: self.attach_mask(inputs[first], mask)}), None

    def encode_with_mask(self, inputs: Nest, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The vectors of `encode`, float `(B, T, D)`, and their mask, bool `(B, T)`, False at padding."""
        if not self.features:
            mask = self.padding_mask(inputs, mask)
            return self.encode(inputs, mask), mask
        vectors = self.encode(inputs, mask)
        mask = compat.keras_mask(vectors)
        return vectors, ops.ones(shape_of(vectors)[:2], dtype="bool") if mask is None else mask

    def packed_weights(self) -> AbstractContextManager[None]:
        """A scope in which projections read weights that were packed to matrices at its start."""
        return packed_weights(self)

    def score_logits(self, inputs: Tensor, tokens: Tensor, start_id: int, mask: Tensor | None = None) -> Tensor:
        """See `GenerationDefaults.score_logits`."""
        first = np.full((len(tokens), 1), start_id, tokens.dtype)
        target_ids = np.concatenate([first, tokens[:, :-1]], axis=1)
        name = next(iter(self.features), "source_ids")
        masks = {} if mask is None else {"source_mask": mask}
        return self({name: inputs, "target_ids": target_ids, **masks}, training=False)

    def decode(
        self, ids: Tensor, positions: Tensor, cache: Nest, memory: Nest = (), attention_mask: Tensor | None = None
    ) -> tuple[Tensor, Nest]:
        """Logits of the next tokens.

        Args:
            ids: Int32 `(B, T)`, the tokens at `positions`; one per row in a generation loop.
            positions: Int32 `(B, T)` or `(1, T)`.
            cache, memory: From `prefill`, or from the previous call.
            attention_mask: Optional bool `(B, T, M)`, the cache slots that each token may attend to; adds to the mask
                by positions.

        Returns:
            `(logits, cache)`: float `(B, T, V)`, and the cache after these tokens.
        """
        hidden, cache = self.decode_hidden(ids, positions, cache, memory, attention_mask)
        return self.logits(hidden), cache

    def output_projection(self) -> dict[str, Any] | None:
        """The projection from `hidden_states` to the logits, for losses that do not materialise the logits.

        Returns:
            Dict of arguments of `keras_attn.ops.linear_cross_entropy`: `kernel`, `bias` and `transpose_kernel`. None if
            the outputs are not logits of tokens, or have a soft cap or quantised weights.
        """
        if not isinstance(self.output, keras.KerasTensor):
            return None
        layer = compat.operation_of(self.output)
        return layer.output_projection() if isinstance(layer, TokenEmbedding) else None

    def hidden_states(self, inputs: Nest, training: bool | None = None) -> Tensor:
        """The inputs of `output_projection`.

        Args:
            inputs: Inputs of the model.
            training: Whether to apply dropout.

        Returns:
            Float `(B, T, D)`.

        Raises:
            ValueError: If `output_projection` is None.
        """
        if self._body is None:
            if self.output_projection() is None:
                raise ValueError(f"`hidden_states` needs a model with an `output_projection`. Received: {self.name}")
            (hidden,) = compat.operation_inputs(self.output)
            body = keras.Model(self.input, hidden, name=f"{self.name}_body")
            # As an attribute, Keras would track it as a layer of the model.
            self._body = lambda: body
        return self._body()(self._all_inputs(inputs), training=training)

    def get_config(self) -> dict[str, Any]:
        config = {
            "name": self.name,
            "trainable": self.trainable,
            **serialized(self._config),
            "pad_id": self.pad_id,
            "dropout": self.dropout.rate,
            "dtype": keras.dtype_policies.serialize(self._policy),
            **{name: serialized(getattr(self, name)) for name in self._carried},
        }
        if self._checkpoint is not None:
            config["checkpoint"] = serialized(self._checkpoint)
        return self._with_sublayers(config)

    @property
    def checkpoint(self) -> Any:
        """The `keras_attn.pretrained.Checkpoint` that the model was read from, or None."""
        return self._checkpoint

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Writes a model that was read by `from_pretrained` as a folder that `transformers` loads with equal outputs.

        For any other model, use `keras_attn.pretrained.save_pretrained(model, folder, config=...)`.

        Args:
            folder: The folder, created if it does not exist.

        Raises:
            ValueError: If the model was not read from a checkpoint, or is no longer what its config describes.
        """
        if self._checkpoint is None:
            raise ValueError(
                "`save_pretrained` needs a model that `from_pretrained` returned; for any other, use "
                "`keras_attn.pretrained.save_pretrained(model, folder, config=...)` with the contents of the "
                f"config.json that describes it. Received: {self.name}"
            )
        self._checkpoint.save(self, folder)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Self:
        return super().from_config(with_ids_of_tokenizer(config), custom_objects=custom_objects)
