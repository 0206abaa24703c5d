"""What the program exports is what transformers loads, for every family.

transformers makes a small random model of each family; the program fine-tunes it and grows a reward model from it; transformers loads
both folders again, with nothing missing and nothing left over, and gets the log-probabilities and rewards that `infalign score` gets, to
1e-4. With a learning rate of 0 what comes out is what went in, bit for bit.

Needs torch and transformers (seen with 5.24); says SKIPPED where they are not to be found. INFALIGN_PEERS_PYTHON names the Python that has
them, if it is not the one that CMake found.
"""
import os
import sys

if (peers := os.environ.pop("INFALIGN_PEERS_PYTHON", None)) and peers != sys.executable:
    os.execv(peers, [peers, *sys.argv])
try:
    import torch
    import transformers
except ImportError as missing:
    print(f"SKIPPED: {missing}; set INFALIGN_PEERS_PYTHON to a Python with torch and transformers")
    sys.exit(0)

from support import *

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
BAR = 1e-4
TEXTS = ["One day, there was a dog.", "Once upon a time a little girl named Lily went to the park with her mother. She was happy."]
TOKENIZER = ROOT / "data" / "storyteller"
SHAPE = dict(vocab_size=1024, hidden_size=48, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0)
# Per family what differs from the library's defaults, chosen so that what is peculiar to it counts.
FAMILIES = {
    "llama": dict(SHAPE, attention_bias=True, mlp_bias=True, tie_word_embeddings=False),
    "mistral": dict(SHAPE, sliding_window=8, head_dim=16),
    "qwen2": dict(SHAPE, use_sliding_window=True, sliding_window=8, max_window_layers=2),
    "qwen3": dict(SHAPE, head_dim=16),
    "smollm3": dict(SHAPE, no_rope_layer_interval=2),
    "gemma": dict(SHAPE, head_dim=16),
    "gemma2": dict(SHAPE, head_dim=16, sliding_window=8, query_pre_attn_scalar=24, attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
    "phi3": dict(SHAPE, partial_rotary_factor=0.5, sliding_window=8, tie_word_embeddings=False),
    "gpt2": dict(vocab_size=1024, n_embd=48, n_layer=4, n_head=4, n_positions=128, bos_token_id=1, eos_token_id=2, pad_token_id=0),
}
# For these transformers 5 puts a pre-tokenizer of its own in the place of the one in tokenizer.json.
REPLACES_TOKENIZER = ("qwen2", "gpt2")


def make_model(family, folder):
    """A random model whose weights are large enough that every part of it counts."""
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(family, **FAMILIES[family]))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.add_(torch.randn_like(weight) * (0.2 if weight.dim() > 1 else 0.1))
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / name, folder)
    return model


def train(folder, output, learning_rate, reward_layers):
    """`finetune`, and a reward model grown from its result, or from its first layers."""
    text, preferences = output / "text.txt", output / "pairs.jsonl"
    text.write_text("\n\n".join(TEXTS * 8))
    preferences.write_text("".join((ROOT / "data" / "preferences.jsonl").read_text().splitlines(keepends=True)[:32]))
    config = output / "run.yaml"
    config.write_text(f"""
name: exports
output: {output}
stages: [finetune, reward]
model: {{reference: {folder}}}
finetune: {{text: {text}, steps: 3, sequences_per_step: 8, sequence_length: 48, learning_rate: {learning_rate}}}
reward: {{preferences: {preferences}, pairs_per_step: 8, max_tokens: 64, layers: {reward_layers}, learning_rate: {learning_rate}}}
""")
    run([PROGRAM, "run", config])
    return output / "models" / "finetuned", output / "models" / "reward"


IDS = [transformers.PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZER / "tokenizer.json")).encode(text) for text in TEXTS]


def score(folder):
    """What the program gets for IDS: a JSON object each."""
    inputs = folder.parent / "inputs.jsonl"
    inputs.write_text("".join(json.dumps({"token_ids": ids}) + "\n" for ids in IDS))
    lines = run([PROGRAM, "score", "--model", folder, "--inputs", inputs, "--json"]).stdout.splitlines()
    return [json.loads(line) for line in lines]


def load(loader, folder):
    model, report = loader.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        check(not report[what], f"{folder}: {what} {report[what]}")
    return model.eval()


def largest_difference(ours, theirs):
    check(len(ours) == len(theirs), f"{len(ours)} numbers against {len(theirs)}")
    return max(abs(a - b) for a, b in zip(ours, theirs))


def compare(family, language, reward):
    tokenizer = transformers.AutoTokenizer.from_pretrained(language)
    model, critic = load(transformers.AutoModelForCausalLM, language), load(transformers.AutoModelForSequenceClassification, reward)
    expected_name = type(critic).__name__
    check(json.loads((reward / "config.json").read_text())["architectures"] == [expected_name], f"{family}: architectures is not {expected_name}")
    worst = [0.0, 0.0]
    for text, tokens, ours, rewarded in zip(TEXTS, IDS, score(language), score(reward)):
        check(family in REPLACES_TOKENIZER or tokenizer(text).input_ids == tokens, f"{family}: other ids for {text!r}")
        ids = torch.tensor([tokens])
        with torch.no_grad():
            logits = model(ids).logits[0].double()
            reward_there = critic(ids).logits[0, 0].item()
        theirs = logits.log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])[:, 0].tolist()
        worst[0] = max(worst[0], largest_difference(ours["logprobs"], theirs))
        worst[1] = max(worst[1], abs(rewarded["reward"] - reward_there))
    padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in IDS], batch_first=True, padding_value=SHAPE["pad_token_id"])
    with torch.no_grad():
        together = critic(padded, attention_mask=(padded != SHAPE["pad_token_id"]).long()).logits[:, 0].tolist()
    worst[1] = max(worst[1], largest_difference([line["reward"] for line in score(reward)], together))
    print(f"{family:8} log-probabilities {worst[0]:.1e}, rewards {worst[1]:.1e}", flush=True)
    check(max(worst) < BAR, f"{family}: differs from transformers by {worst}")


def require_same_weights(family, made, exported):
    again = load(transformers.AutoModelForCausalLM, exported).state_dict()
    for name, weight in made.state_dict().items():
        check(torch.equal(weight, again[name]), f"{family}: {name} came back changed")
    check((exported / "config.json").read_bytes() == (exported.parent.parent / "made" / "config.json").read_bytes(), f"{family}: config.json came back changed")


for family in sys.argv[1:] or FAMILIES:
    output = fresh(family)
    made = make_model(family, output / "made")
    language, reward = train(output / "made", output, learning_rate=0, reward_layers=0)
    require_same_weights(family, made, language)
    compare(family, language, reward)
    compare(family, *train(output / "made", output, learning_rate=0.01, reward_layers=3))
print("all load in transformers", transformers.__version__)
