"""Random models of `transformers`, and what they compute."""

import numpy as np
import torch
import transformers
from safetensors.torch import load_file

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def model_of(case):
    """The model of a case, with random weights of which none is zero or one."""
    architecture = getattr(transformers, case.architecture)
    config = architecture.config_class(**case.config)
    torch.manual_seed(0)
    model = architecture._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        trained = [x for x in model.parameters() if x.requires_grad]
        trained += [x for name, x in model.named_buffers() if name == "final_logits_bias"]
        for parameter in trained:
            if parameter.dim() > 1:
                parameter.normal_(0, case.std)
            else:
                parameter.add_(torch.randn(parameter.shape) * 0.2)
        if case.change is not None:
            case.change(model)
        # Files hold bfloat16, so that the same numbers are in a small fixture.
        for parameter in trained:
            parameter.copy_(parameter.bfloat16().float())
    return model


def inputs_of(case):
    return case.inputs(np.random.default_rng(0))


def outputs(model, inputs):
    """The outputs by name."""
    with torch.no_grad():
        return arrays(model(**tensors(inputs)))


def arrays(found):
    return {name: value.numpy() for name, value in outputs_of(found).items()}


def outputs_of(found):
    """`logits`, or the vectors of a model without head."""
    if "start_logits" in found:
        return {"logits": torch.stack([found["start_logits"], found["end_logits"]], -1)}
    for names in (("cls_logits", "distillation_logits"), ("prediction_logits", "seq_relationship_logits")):
        if names[0] in found:
            return {name: found[name] for name in names}
    for name in ("logits", "logits_per_image", "last_hidden_state"):
        if name in found:
            return {name: found[name]}
    raise ValueError(f"no known output in {list(found)}")


def tensors(inputs):
    return {name: torch.tensor(value) for name, value in inputs.items()}


def generated(model, inputs, **settings):
    """Generated tokens, padded with -1 after the end; each row by itself, since they are padded on another side."""
    rows = []
    lengths = inputs["attention_mask"].sum(axis=1) if "attention_mask" in inputs else None
    for i in range(len(next(iter(inputs.values())))):
        row = {name: value[i : i + 1] for name, value in inputs.items() if not name.startswith("decoder_")}
        if lengths is not None:
            row = {name: value[:, : lengths[i]] if value.ndim == 2 else value for name, value in row.items()}
        with torch.no_grad():
            found = model.generate(**tensors(row), do_sample=False, **settings)[0].tolist()
        # Whisper returns only the new tokens.
        prompt = row["input_ids"].shape[1] if "input_ids" in row else 0
        rows.append(found[1 if model.config.is_encoder_decoder and prompt else prompt :])
    return rows


def parameters_by_name_in_file(model, folder):
    """The names of parameters by those in the file, which has other names for the modules of some classes."""
    stored = load_file(f"{folder}/model.safetensors")
    found = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        same = (x for x, value in stored.items() if torch.equal(value, parameter.detach()))
        found[name if name in stored else next(same, name)] = name
    return found


def loss_gradient(model, inputs, names):
    """The gradient of the sum of squares of the outputs, in each of the parameters."""
    by_name = dict(model.named_parameters(remove_duplicate=False))
    loss = 0
    for values in outputs_of(model(**tensors(inputs))).values():
        mask = torch.tensor(inputs["attention_mask"]).bool() if _per_token(values, inputs) else None
        loss += ((values if mask is None else values[mask]) ** 2).sum()
    gradients = torch.autograd.grad(loss, [by_name[name] for name in names])
    return {name: g.numpy() for name, g in zip(names, gradients, strict=True)}


def _per_token(values, inputs):
    mask = inputs.get("attention_mask")
    return mask is not None and "decoder_input_ids" not in inputs and tuple(values.shape[:2]) == mask.shape
