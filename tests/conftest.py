"""What all tests have in common: no network, no touching of the user's own data, and the default model where it is set up."""

import os
from pathlib import Path
from typing import Any

import pytest

from studio.cli.offline import go_offline
from studio.settings import default_data_dir

go_offline(os.environ)
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # before torch is imported: what is started here inherits it
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))
_CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
_CORPUS = [
    "A person chose these items, oldest first. Which candidate would they choose next?",
    "Candidates (3):",
    "Which candidate is the least likely to be the item that this person would choose next?",
    "Think between <think> and </think>. Then write the name or the number of only that candidate between <answer> and </answer>.",
    "I compare the candidates and look for the one that fits least.",
    "Candidates have to be ranked for a query.",
    "the candidate that fits the query best",
]
_MODELS_DIR = Path(os.environ.get("STUDIO_TEST_MODELS") or default_data_dir() / "models")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests go last: Playwright keeps an event loop running in this thread, in which `asyncio.run` is refused."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests stay in one process, and files are begun in the order above, so browser tests go last in each process."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def _private_data_dir(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A command that is not told where to keep its things keeps them where nobody misses them."""
    os.environ["STUDIO_DATA_DIR"] = str(tmp_path_factory.mktemp("data-dir"))


@pytest.fixture(scope="session")
def default_models_dir() -> Path:
    """A models directory that has the default model (`launch.py test` sets it up). Do not write into it."""
    from trainer.registry import BASE_MODEL, Registry

    if not Registry(_MODELS_DIR).has(BASE_MODEL):
        reason = f"{BASE_MODEL} is not in {_MODELS_DIR}: `python launch.py test` fetches it"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return _MODELS_DIR


@pytest.fixture(scope="session")
def toy_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 60,000 parameters whose tokenizer knows the prompt's own sentences as few tokens; trains in seconds."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    directory = tmp_path_factory.mktemp("toy-model")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=520, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_CORPUS * 40, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left"
    )
    fast.chat_template = _CHAT_TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        bos_token_id=None,
        initializer_range=0.08,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    fast.save_pretrained(directory)
    return directory
