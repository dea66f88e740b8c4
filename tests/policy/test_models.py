"""Where models come from: what cannot be a model is refused in one sentence, and what is kept is whole."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file

from posttrain.batching import TokenSequence
from posttrain.policy.hf import load_policy
from posttrain.policy.models import _kept, cache_dir, last_checkpoint, resolve, revision
from posttrain.types import UserError
from tests.small_models import text

SEQUENCES = [TokenSequence(text(9, 1), text(14, 2))]


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of models."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("POSTTRAIN_CACHE", str(folder))
    return folder


@pytest.fixture
def model(tmp_path) -> Path:
    """A model folder to be damaged."""
    return Path(shutil.copytree(resolve("tiny"), tmp_path / "model"))


def refusal(model: str | Path) -> str:
    """The sentence with which this model is refused."""
    with pytest.raises(UserError) as error:
        load_policy(str(model), "float32")
    sentence = str(error.value)
    assert "\n" not in sentence and len(sentence) > 30
    return sentence


# ---------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", ["nonsense", "./nowhere", "/nowhere/at/all", "a/b/c", "~nobody/model", "x" * 300, "nul\0byte"])
def test_a_name_that_means_nothing_is_refused(name):
    assert "there is no model" in refusal(name)


def test_a_hub_id_that_cannot_be_had_is_refused():
    assert re.search("the hub .* check the name", refusal("nobody/no-such-model"))


def test_a_file_that_is_no_gguf_is_refused(tmp_path):
    (tmp_path / "notes.gguf").write_text("these are notes")
    assert "is not a GGUF file" in refusal(tmp_path / "notes.gguf")
    (tmp_path / "empty").touch()
    assert "is not a GGUF file" in refusal(tmp_path / "empty")


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    assert "neither config.json nor adapter_config.json nor a finished checkpoint" in refusal(tmp_path)


def test_a_run_without_a_finished_checkpoint_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"algorithm": "grpo"}')
    (tmp_path / "checkpoints" / ".step_000020").mkdir(parents=True)
    assert "a run without a finished checkpoint?" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ('{"model_type": "lla', "is not valid JSON"),
        ("\x00\x01", "is not valid JSON"),
        ("[1, 2]", "names no model_type"),
        ("3", "names no model_type"),
        ('"model_type"', "names no model_type"),
        ("{}", "names no model_type"),
        ('{"model_type": "no_such_architecture"}', "cannot be loaded"),
        ('{"model_type": "llama", "hidden_size": "wide"}', "cannot be loaded"),
        ('{"model_type": "bert"}', "lacks"),
    ],
)
def test_a_damaged_config_is_refused(model, config, complaint):
    (model / "config.json").write_text(config)
    assert complaint in refusal(model)


def test_a_config_of_other_sizes_is_refused(model):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))
    assert "cannot be loaded" in refusal(model)


def test_missing_weights_are_refused(model):
    (model / "model.safetensors").unlink()
    assert "holds no weights" in refusal(model)


@pytest.mark.parametrize("keep", [0, 4, 100, 20_000])
def test_truncated_weights_are_refused(model, keep):
    whole = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(whole[:keep])
    assert "cannot be loaded" in refusal(model)


def test_weights_without_one_of_the_layers_are_refused_and_not_filled_with_random_numbers(model):
    weights = load_file(model / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    assert "lacks 1 of its weights (model.layers.1.mlp.up_proj.weight" in refusal(model)


def test_a_missing_or_damaged_tokenizer_is_refused(model):
    (model / "tokenizer.json").write_text('{"version": ')
    assert "cannot be loaded" in refusal(model)


def test_a_damaged_adapter_is_refused(model):
    (model / "adapter_config.json").write_text('{"peft_type": "LORA"')
    assert "cannot be loaded" in refusal(model)


# ------------------------------------------------------------------------------------------------------------ what is found


def test_a_run_stands_for_its_last_finished_checkpoint(model, tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    assert last_checkpoint(run) is None
    for name in ("step_000020", "step_000100", ".step_000120"):
        shutil.copytree(model, run / "checkpoints" / name)
    assert resolve(str(run)) == last_checkpoint(run) == run / "checkpoints" / "step_000100"


def test_the_tiny_model_is_always_the_same_and_made_once(cache, monkeypatch):
    torch.manual_seed(1)
    first = resolve("tiny")
    made, state = (first / "model.safetensors").stat().st_mtime_ns, torch.get_rng_state()
    assert first.parent == cache and resolve("tiny") == first
    assert (first / "model.safetensors").stat().st_mtime_ns == made
    monkeypatch.setenv("POSTTRAIN_CACHE", str(cache / "another"))
    again = load_file(resolve("tiny") / "model.safetensors")
    assert torch.equal(torch.get_rng_state(), state), "making it draws nothing from the global generator"
    for name, weight in load_file(first / "model.safetensors").items():
        assert torch.equal(again[name], weight)


def test_the_cache_is_where_the_user_wants_it(monkeypatch):
    monkeypatch.setenv("POSTTRAIN_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert cache_dir() == Path("/one")
    monkeypatch.delenv("POSTTRAIN_CACHE")
    assert cache_dir() == Path("/two/posttrain")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/three")
    assert cache_dir() == Path("/three/.cache/posttrain")


def write_config(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def test_a_making_that_fails_leaves_nothing_behind(cache):
    def fails(folder: Path) -> None:
        write_config(folder)
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        _kept("model", fails)
    assert list(cache.iterdir()) == []
    assert (_kept("model", write_config) / "config.json").is_file()


def test_when_another_process_is_faster_its_model_is_taken(cache):
    def overtaken(folder: Path) -> None:
        write_config(folder)
        _kept("model", lambda other: (other / "config.json").write_text('{"faster": 1}'))

    assert (_kept("model", overtaken) / "config.json").read_text() == '{"faster": 1}'
    assert [path.name for path in cache.iterdir()] == ["model"]


# -------------------------------------------------------------------------------------------------------------------- GGUF


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a query or key projection in GGUF's order: the two halves of each head's rotation in turn."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def write_gguf(folder: Path, target: Path, pre_tokenizer: str = "default") -> Path:
    """The model of a folder as GGUF, written by the format's own library; its last byte gives way to a token for `12`."""
    config, weights = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    pieces = json.loads((folder / "tokenizer.json").read_text())
    tokens = [*sorted(pieces["model"]["vocab"], key=pieces["model"]["vocab"].get)[:-1], "12", "<|im_start|>", "<|im_end|>"]
    writer = gguf.GGUFWriter(target, "llama")
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL] * 2)
    writer.add_token_merges(["1 2"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    writer.add_chat_template((folder / "chat_template.jinja").read_text())
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, weight in weights.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            weight = interleaved(weight, heads if "q_proj" in name else kv_heads)
        writer.add_tensor(names.get_name(name, (".weight",)), weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def test_a_gguf_file_is_converted_once_to_the_weights_it_holds(cache, tmp_path):
    tiny = resolve("tiny")
    folder = resolve(str(write_gguf(tiny, tmp_path / "tiny.gguf")))
    assert folder.parent == cache and folder == resolve(str(tmp_path / "tiny.gguf"))
    converted, original = load_file(folder / "model.safetensors"), load_file(tiny / "model.safetensors")
    assert converted.keys() == original.keys()
    for name, weight in original.items():
        assert torch.equal(converted[name], weight.bfloat16()), name


def test_a_converted_model_can_be_saved_and_loaded(cache, tmp_path):
    loaded = load_policy(str(write_gguf(resolve("tiny"), tmp_path / "tiny.gguf")), "float32")
    loaded.save(tmp_path / "saved")
    assert "quantization_config" not in (tmp_path / "saved" / "config.json").read_text()
    assert torch.equal(load_policy(str(tmp_path / "saved"), "float32").score(SEQUENCES)[0], loaded.score(SEQUENCES)[0])


def test_digits_of_smollm_stay_apart_as_the_gguf_file_says(cache, tmp_path):
    as_one, apart = (
        load_policy(str(write_gguf(resolve("tiny"), tmp_path / f"{pre}.gguf", pre)), "float32").renderer for pre in ("default", "smollm")
    )
    assert as_one.pieces(as_one.encode("a  12")) == ["a", " ", " ", "12"]
    assert apart.pieces(apart.encode("a  12")) == ["a", " ", " ", "1", "2"]


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_a_truncated_gguf_file_is_refused_and_leaves_nothing_in_the_cache(cache, tmp_path, share):
    whole = write_gguf(resolve("tiny"), tmp_path / "whole.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: int(share * len(whole))])
    assert "cannot be read as a GGUF model" in refusal(tmp_path / "cut.gguf")
    assert list(cache.glob("*gguf*")) == []


def test_a_corrupt_gguf_file_is_refused(cache, tmp_path):
    whole = write_gguf(resolve("tiny"), tmp_path / "whole.gguf").read_bytes()
    (tmp_path / "bad.gguf").write_bytes(whole[:8] + b"\xff" * 64 + whole[72:])
    assert "cannot be read as a GGUF model" in refusal(tmp_path / "bad.gguf")


# ---------------------------------------------------------------------------------------------------------------- revision


def test_a_revision_is_of_the_content_and_not_of_the_name(model, tmp_path):
    elsewhere = Path(shutil.copytree(model, tmp_path / "elsewhere"))
    assert revision(model) == revision(elsewhere) == revision(resolve("tiny"))
    (elsewhere / "notes.md").write_text("not a part of the model")
    assert revision(elsewhere) == revision(model)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_another_weight_setting_or_token_is_another_revision(file, model):
    before = revision(model)
    (model / file).write_bytes((model / file).read_bytes() + b" ")
    assert revision(model) != before


def test_an_adapters_revision_is_its_base_models_too(model, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(model)}))
    before = revision(adapter)
    (model / "config.json").write_text((model / "config.json").read_text() + " ")
    assert revision(adapter) != before
