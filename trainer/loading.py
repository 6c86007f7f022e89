"""The model that a job trains: on which device and in which precision, and with which adapter. Imports torch, transformers and PEFT."""

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_peft_model
from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForCausalLM

from ranker.errors import CheckpointError, JobError
from trainer.config import JobConfig


def choose_device(config: JobConfig) -> torch.device:
    """Raises JobError if GPUs are asked for that are not there."""
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.device == "cuda" and not num_gpus:
        raise JobError("device: cuda: this machine has none that PyTorch can use: choose cpu or auto")
    if config.device == "cpu" or not num_gpus:
        return torch.device("cpu")
    if config.num_processes > num_gpus:
        raise JobError(f"num_processes: {config.num_processes}: this machine has {num_gpus} GPUs: lower it")
    return torch.device("cuda")


def choose_dtype(config: JobConfig, device: torch.device) -> torch.dtype:
    """bf16 where the hardware computes it, unless all weights are trained or the config says otherwise."""
    if config.lora is None or config.precision == "fp32":
        return torch.float32
    can_bf16 = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if config.precision == "bf16" or can_bf16 else torch.float32


def load_policy(config: JobConfig, base: Path, dtype: torch.dtype) -> Any:
    """The base model, with the adapter of an earlier checkpoint where one is given."""
    try:
        model = AutoModelForCausalLM.from_pretrained(
            base,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=dtype,
            attn_implementation="sdpa",
        )
        if config.start_from is not None:
            adapted = PeftModel.from_pretrained(model, config.start_from, is_trainable=True, local_files_only=True)
            _freeze_lower_layers(config, adapted)
            return adapted
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise CheckpointError(f"{config.start_from or base}: cannot be loaded: {reason}: choose another") from error
    return model


def new_adapter(config: JobConfig, model: Any) -> LoraConfig | None:
    """The adapter that is to be added, None where there is one or all weights are trained."""
    if config.lora is None or isinstance(model, PeftModel):
        return None
    last = _last_layers(config, model)
    modules: Any = config.lora.modules if config.lora.modules == "all-linear" else config.lora.modules.split(",")
    return LoraConfig(
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,
        lora_dropout=0.0,
        target_modules=_linear_modules(model) if modules == "all-linear" and last is not None else modules,
        layers_to_transform=last,
        task_type="CAUSAL_LM",
    )


def _last_layers(config: JobConfig, model: Any) -> list[int] | None:
    """Numbers of the layers that are adapted, None = all."""
    if config.lora is None or not config.lora.last_layers:
        return None
    num_layers = model.config.get_text_config().num_hidden_layers
    return list(range(num_layers - config.num_backward_layers(num_layers), num_layers))


def _linear_modules(model: Any) -> list[str]:
    """What PEFT calls `all-linear`, by name: it takes numbers of layers beside names only."""
    layers = model.get_decoder().layers.named_modules()
    return sorted({name.rpartition(".")[2] for name, module in layers if isinstance(module, torch.nn.Linear)})


def _freeze_lower_layers(config: JobConfig, model: PeftModel) -> None:
    """Leave an adapter that is loaded as it is below the last layers that the config names: no gradients go there."""
    if config.lora is None or not config.lora.last_layers:
        return
    layers = model.get_base_model().base_model.layers
    for layer in layers[: -config.lora.last_layers]:
        layer.requires_grad_(False)


def keep_inputs(model: Any) -> Any:
    """The layers of adapters read what they are given instead of a copy in float32. Such a model is read within `products_in_bf16` alone."""
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = False
    return model


def products_in_bf16(model: Any) -> torch.autocast:
    """Where a model is in bfloat16: the products of its adapters, whose weights are in float32, in bfloat16 as all others.

    A product's sums stay in float32. Else every input of a layer would be copied into float32, twice of what the layer itself reads and writes.
    """
    weight = getattr(model, "module", model).get_output_embeddings().weight
    return torch.autocast(weight.device.type, torch.bfloat16, enabled=weight.dtype is torch.bfloat16)


def without_adapter(model: Any) -> Any:
    """The model of transformers inside, whose modules an adapter may have wrapped; the model itself if it has none."""
    return model.get_base_model() if is_peft_model(model) else model
