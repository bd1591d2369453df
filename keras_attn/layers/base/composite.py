"""Saves and restores changes to sub-layers that constructor arguments do not describe."""

from typing import Any, Self

import keras
from keras import dtype_policies
from keras.dtype_policies import DTypePolicyMap

from keras_attn import compat
from keras_attn.layers.base.freezable import Freezable, set_own_trainable
from keras_attn.layers.base.serialization import deserialized, layer_spec
from keras_attn.lazy import register, register_again

_QUANTIZATION = {
    "int8": keras.quantizers.Int8QuantizationConfig,
    "int4": keras.quantizers.Int4QuantizationConfig,
    "float8": keras.quantizers.Float8QuantizationConfig,
}


class Composite(Freezable, compat.BuildHook):
    """Stores in the config which sub-layers were frozen, quantised or given LoRA.

    Configs of Keras' own composite layers hold constructor arguments only. Here, the entry `sublayers` maps the path of
    a sub-layer, such as "blocks/0/self_attention", to the settings that differ from a new layer: `trainable`, `dtype`,
    `quantization_config`, `lora_rank`, `lora_alpha` and `lora_as_matrix`. The entry is missing if nothing differs.

    `trainable=False` in the constructor also freezes sub-layers that are created later. As a mixin, this class must
    precede the Keras class among the bases.
    """

    # The states that `from_config` read, kept until the sub-layers exist.
    _sublayer_states = None

    def _forget_trainable(self):
        if self._sublayer_states:
            states = self._sublayer_states.items()
            self._keep({path: {k: v for k, v in state.items() if k != "trainable"} for path, state in states})

    def get_config(self) -> dict[str, Any]:
        # `keras.layers.Bidirectional` and other wrappers deserialize this config at once.
        register_again(type(self))
        return self._with_sublayers(super().get_config())

    def _with_sublayers(self, config):
        states = sublayer_states(self) if self._sublayer_states is None else self._sublayer_states
        return {**config, "sublayers": states} if states else config

    @classmethod
    def from_config(cls, config: dict[str, Any], *args: Any, **kwargs: Any) -> Self:
        config = dict(config)
        # Keras itself deserializes the layers inside its wrappers.
        register(config)
        states, trainable = config.pop("sublayers", {}), config.pop("trainable", True)
        layer = super().from_config(config, *args, **kwargs)
        compat.set_untracked(layer, "_made_trainable", trainable)
        set_own_trainable(layer, trainable)
        if layer.built:
            restore(layer, states)
        elif states:
            layer._keep(states)
        return layer

    def _keep(self, states):
        compat.set_untracked(self, "_sublayer_states", states)

    def after_build(self) -> None:
        """Restores the states of sub-layers that `from_config` read."""
        states, self._sublayer_states = self._sublayer_states, None
        restore(self, states or {})


def sublayer_states(root):
    """Maps the path of each layer in `root` that differs from a new one to the settings that differ."""
    policies = getattr(root, "_policy", root.dtype_policy)
    states, trainable = {}, {id(root): root.trainable}
    for path, parent, layer in _walk(root):
        state = {}
        inherited = trainable[id(parent)]
        trainable[id(layer)] = layer.trainable if root.built else _inherited(layer, inherited)
        if layer.built and not layer.weights:
            continue
        if trainable[id(layer)] != (inherited and _made_trainable(layer)):
            state["trainable"] = trainable[id(layer)]
        policy = _policy(layer)
        given = policies[layer.path] if isinstance(policies, DTypePolicyMap) and layer.path else _policy(parent)
        if policy.name != given.name:
            state["dtype"] = policy.name
        if policy.quantization_mode is not None and hasattr(layer, "quantization_config"):
            config = layer_spec(layer.quantization_config)
            if config != layer_spec(_default_config(policy.quantization_mode)):
                state["quantization_config"] = config
        if getattr(layer, "lora_enabled", False):
            state |= {"lora_rank": layer.lora_rank, "lora_alpha": layer.lora_alpha}
            state |= {"lora_as_matrix": True} if getattr(layer, "lora_as_matrix", False) else {}
        if state:
            states[path] = state
    return states


def restore(root, states):
    """Applies the result of `sublayer_states` to the layers in `root`, which was built from a config."""
    walk = list(_walk(root))
    for path, _, layer in walk:
        if isinstance(layer.dtype_policy, DTypePolicyMap) and layer.path:
            # When they are quantised or saved, Keras' own layers read the default of a policy map instead of their
            # entry.
            compat.set_dtype_policy(layer, _policy(layer))
        _restore_weights(layer, states.get(path, {}))
    unfrozen = set()
    for path, parent, layer in walk:
        trainable = _inherited(layer, parent.trainable)
        if id(parent) in unfrozen:
            # The constructor froze the parent layer, but the restored state does not.
            trainable = _made_trainable(layer)
        trainable = states.get(path, {}).get("trainable", trainable)
        if trainable != layer.trainable:
            set_own_trainable(layer, trainable)
            if trainable:
                unfrozen.add(id(layer))


def _made_trainable(layer):
    """`trainable` after the constructor. Only layers of this package can be frozen by their parent's constructor."""
    return vars(layer).get("_made_trainable", compat.own_trainable(layer) if isinstance(layer, Composite) else True)


def _inherited(layer, parent_trainable):
    """The default `trainable` of a layer: its own value if that was set, else that of its parent."""
    return layer.trainable and (parent_trainable or getattr(layer, "_trainable_was_set", False))


def _policy(layer):
    """The layer's entry in a policy map, or its policy."""
    policy = layer.dtype_policy
    if not isinstance(policy, DTypePolicyMap):
        return policy
    return policy[layer.path] if layer.path else policy.default_policy


def _default_config(mode):
    return _QUANTIZATION[mode]() if mode in _QUANTIZATION else None


def _restore_weights(layer, state):
    policy = dtype_policies.get(state["dtype"]) if "dtype" in state else _policy(layer)
    if policy.quantization_mode is not None and state.keys() & {"dtype", "quantization_config"}:
        config = state.get("quantization_config", layer_spec(_default_config(policy.quantization_mode)))
        if policy.name != _policy(layer).name or config != layer_spec(layer.quantization_config):
            compat.set_dtype_policy(layer, policy)
            layer.quantization_config = deserialized(config)
            if layer.built:
                # Builds empty weights: quantising the present ones would take long.
                compat.build_anew(layer)
    elif "dtype" in state:
        compat.set_dtype_policy(layer, policy)
    if "lora_rank" in state and not layer.lora_enabled:
        options = {"as_matrix": True} if state.get("lora_as_matrix") else {}
        layer.enable_lora(state["lora_rank"], lora_alpha=state["lora_alpha"], **options)


def _walk(root):
    """`(path, parent, layer)` of each layer in `root`, parents first. A shared layer occurs once."""
    seen = set()

    def visit(parent, prefix):
        children = [(name, x) for name, x in _children(parent) if id(x) not in seen]
        # Direct sub-layers belong to this parent, even if one of them also shares another.
        seen.update(id(x) for _, x in children)
        for name, layer in children:
            yield prefix + name, parent, layer
            yield from visit(layer, f"{prefix}{name}/")

    return visit(root, "")


def _children(layer):
    """`(name, sub-layer)` pairs: the attribute's name, or the layer's own if it is in none (functional models)."""
    tracked = {id(x): x for x in compat.sublayers_of(layer)}
    if not tracked:
        # Most layers: each build of a composite layer walks all of its own.
        return
    attributes = compat.attributes_of(layer)
    for attribute in sorted(attributes, key=lambda name: (name.startswith("_"), name)):
        if isinstance(layer, keras.Model) and attribute.startswith("_"):
            continue
        for name, x in _held(attribute, attributes[attribute]):
            if tracked.pop(id(x), None) is not None:
                yield name, x
    for x in tracked.values():
        yield x.name, x


def _held(name, value):
    if isinstance(value, keras.layers.Layer):
        yield name, value
    elif isinstance(value, (list, tuple, dict)):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _held(f"{name}/{key}", entry)
