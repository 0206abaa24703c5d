"""Every kind of bad input ends with one clear line, the documented exit code, and nothing computed before is lost."""
import gzip
import struct

from support import *

config, settings = small_config()
base = fresh("base")
run(command(config, base, settings), timeout=300)
STORYTELLER = ROOT / "data" / "storyteller"


def expect_refusal(arguments, code, *words):
    done = run(arguments, expect=code)
    lines = [line for line in done.stderr.splitlines() if line.startswith("infalign:")]
    check(len(lines) == 1, f"expected one line, got:\n{done.stderr}")
    for word in words:
        check(str(word) in done.stderr, f"«{word}» is not in the message:\n{done.stderr}")
    print(f"{code}: {lines[0][:160]}")


def model_copy(name, source=STORYTELLER):
    folder = fresh("models") / name
    shutil.copytree(source, folder)
    return folder


def edit_weights(folder, edit):
    """Rewrites model.safetensors through edit(header, data) -> (header, data)."""
    raw = (folder / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header, data = edit(json.loads(raw[8:8 + size]), bytearray(raw[8 + size:]))
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(data))


def generate(folder):
    return [PROGRAM, "generate", "--model", folder, "--prompt", "One day"]


# Model folders.
folder = model_copy("truncated")
raw = (folder / "model.safetensors").read_bytes()
(folder / "model.safetensors").write_bytes(raw[:-100])
expect_refusal(generate(folder), 3, "model.safetensors")
(folder / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + raw[8:])
expect_refusal(generate(folder), 3, "model.safetensors")

folder = model_copy("missing")
edit_weights(folder, lambda h, d: ({("model.renamed.weight" if k == "model.norm.weight" else k): v for k, v in h.items()}, d))
expect_refusal(generate(folder), 3, "model.norm.weight")
folder = model_copy("shape")
def other_shape(header, data):
    header["model.norm.weight"]["shape"] = [2, header["model.norm.weight"]["shape"][0] // 2]
    return header, data
edit_weights(folder, other_shape)
expect_refusal(generate(folder), 3, "model.norm.weight", "shape")
folder = model_copy("nan")
def not_a_number(header, data):
    data[0:4] = struct.pack("<f", float("nan"))
    return header, data
edit_weights(folder, not_a_number)
expect_refusal(generate(folder), 3, "model.safetensors")
folder = model_copy("surplus")
def surplus(header, data):
    header["model.extra.weight"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(data), len(data) + 4]}
    return header, data + bytes(4)
edit_weights(folder, surplus)
expect_refusal(generate(folder), 3, "model.extra.weight")
expect_refusal(generate(SCRATCH / "nowhere"), 3, "nowhere")

# Text.
bad = SCRATCH / "bad.jsonl"
bad.write_bytes(b'{"prompt": "One day"}\n{"prompt": "caf\xe9"}\n')
expect_refusal(command(config, fresh("o"), {**settings, "prompts.train": bad}), 3, "bad.jsonl:2", "UTF-8")
bad.write_text('{"prompt": "One day"}\n\n{"prompt": \n')
expect_refusal(command(config, fresh("o"), {**settings, "prompts.train": bad}), 3, "bad.jsonl:3", "JSON")
bad.write_text('{"prompt": "One day"}\n{"prompt": ""}\n')
expect_refusal(command(config, fresh("o"), {**settings, "prompts.train": bad}), 3, "bad.jsonl:2", "empty")
bad.write_text(json.dumps({"prompt": "One day " * 400}) + "\n")
expect_refusal(command(config, fresh("o"), {**settings, "prompts.train": bad}), 3, "bad.jsonl", "context")
bad.write_bytes(gzip.compress(b'{"prompt": "One day"}\n' * 2000)[:-20])
expect_refusal(command(config, fresh("o"), {**settings, "prompts.train": bad}), 3, "bad.jsonl")

# Configuration: before anything is started, all problems at once.
expect_refusal(command(config, fresh("o"), {**settings, "alignment.prompts_per_step": 7}), 2, "alignment.prompts_per_step", "micro_batch_prompts")
expect_refusal(command(config, fresh("o"), {**settings, "alignment.learning_rat": 1}), 2, "learning_rate")
expect_refusal(command(config, fresh("o"), {**settings, "sampling.top_p": 0.9}, ranks=2), 2, "top_p")

# Rewards.
def reward_like(name, edit):
    folder = model_copy(name, base / "models" / "reward")
    edit_weights(folder, edit)
    return {**settings, "stages": "[calibrate]", "model.reward": folder}
def constant(header, data):
    begin, end = header["score.weight"]["data_offsets"]
    data[begin:end] = bytes(end - begin)
    return header, data
expect_refusal(command(config, fresh("o"), reward_like("constant", constant)), 3, "same reward")
def infinite(header, data):
    begin, end = header["score.weight"]["data_offsets"]
    data[begin:end] = struct.pack("<f", 3e38) * ((end - begin) // 4)
    return header, data
expect_refusal(command(config, fresh("o"), reward_like("infinite", infinite)), 3, "reward", "finite")

# Calibration and checkpoint files.
def copy_of_base(name):
    folder = fresh(name)
    shutil.rmtree(folder)
    shutil.copytree(base, folder)
    return folder
folder = copy_of_base("calibration")
raw = bytearray((folder / "calibration.h5").read_bytes())
(folder / "calibration.h5").write_bytes(raw[:len(raw) // 2])
shutil.rmtree(folder / "checkpoints")
expect_refusal(command(config, folder, settings), 3, "calibration.h5")
folder = copy_of_base("checkpoint")
shard = sorted((folder / "checkpoints" / "infalign").glob("step_*/shard_*.h5"))[-1]
raw = bytearray(shard.read_bytes())
raw[len(raw) // 2] ^= 0x10
shard.write_bytes(raw)
(folder / "evaluation.json").unlink()
expect_refusal(command(config, folder, settings), 3, "shard_")

# Places that cannot be written.
expect_refusal(command(config, "/proc/nowhere/run", settings), 1, "/proc/nowhere/run")

# A rank that fails while others wait: all stop, and the message names rank and stage.
start = time.time()
done = run(command(config, fresh("o"), reward_like("infinite", infinite), ranks=3), expect=None, timeout=60)
check(done.returncode != 0 and time.time() - start < 30, f"did not stop: {done.returncode} after {time.time() - start:.0f} s")
check("rank " in done.stderr and "stage calibrate" in done.stderr, f"rank and stage are not named:\n{done.stderr}")
print("all refused")
