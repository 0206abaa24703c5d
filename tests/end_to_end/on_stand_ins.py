"""`device: cuda` through every stage, on stand-ins for CUDA and NCCL: what the CPU gives within the tolerances below, the same bits on 1, 2 and 4
ranks in every stage of sharding, whatever the order of warps and streams; checkpoints that go on in another stage and on the other device; adapters on a reference in bfloat16; policies that are read in it; what is refused."""
from support import *

# The CPU sums its products in another order, and rounds exponentials otherwise. Over the few steps here that is far below what a step changes.
TOLERANCE = 2e-3  # of rewards, KL, win rates, losses
# Where all of a weight's gradient is rounding, AdamW takes whole steps in a direction of chance: up to twice the learning rate in each of 4 steps.
WEIGHTS = 2 * 4 * 3e-4
MEAN_OF_WEIGHTS = 1e-6

# MiB of a GPU that suffice for stages 2 and 3 on 4 ranks (the plan: 9.0 at most), and not for stage 1 (14.2).
LITTLE = "13"

CUDA_PROGRAM = os.environ["INFALIGN_CUDA_PROGRAM"]  # the whole program over the stand-ins
config, small = small_config()
# Few and short: fibers in the place of a GPU's threads take their time.
preferences, train, heldout = (SCRATCH / "small" / f"{name}.jsonl" for name in ("few", "train", "heldout"))
pairs = [json.loads(line) for line in (ROOT / "data" / "preferences.jsonl").read_text().splitlines()[:400:10]]
preferences.write_text("".join(json.dumps({key: " ".join(text.split(" ")[:4]) for key, text in pair.items()}) + "\n" for pair in pairs))
for file, did in ((train, "saw"), (heldout, "had")):
    file.write_text("".join(json.dumps({"prompt": f"{who} {did} a {what}"}) + "\n" for who, what in
                            (("Tom", "cat"), ("Lily", "big dog"), ("The fox", "bird"), ("Mia", "boat in the sea"))))
settings = {**small, "reward.preferences": preferences, "reward.pairs_per_step": 16, "prompts.train": train, "prompts.heldout": heldout,
            "sampling.max_new_tokens": 4, "calibration.rollouts_per_prompt": 6, "alignment.steps": 4, "alignment.prompts_per_step": 4,
            "alignment.samples_per_prompt": 3, "distributed.micro_batch_prompts": 1, "evaluation.samples_per_prompt": 4,
            "alignment.variants": "[{name: infalign, transform: optimal}]"}
PRODUCTS = ["calibration.h5", "evaluation.json", "models/reward/model.safetensors", "policies/infalign/model.safetensors"]


def start(device, output, settings=settings, ranks=None, expect=0, program=(CUDA_PROGRAM,), **environment):
    arguments = command(config, output, {**settings, "device": device}, ranks)
    at = arguments.index(str(PROGRAM))
    arguments[at:at + 1] = program
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=400, env={**ENVIRONMENT, **environment})
    check(done.returncode == expect, f"exit code {done.returncode} instead of {expect}:\n{' '.join(arguments)}\n{done.stdout}\n{done.stderr}")
    return done.stderr


def weights(file):
    """All values of a safetensors file in float32, in the order of their names."""
    import struct
    data = file.read_bytes()
    size, = struct.unpack("<Q", data[:8])
    tensors = json.loads(data[8:8 + size])
    for name in sorted(tensors):
        if name == "__metadata__":
            continue
        begin, end = (8 + size + offset for offset in tensors[name]["data_offsets"])
        check(tensors[name]["dtype"] == "F32", f"{name} is not in float32")
        yield from struct.unpack(f"<{(end - begin) // 4}f", data[begin:end])


def require_near(expected, found, where):
    """Equal in everything but numbers, and these near."""
    if isinstance(expected, dict):
        check(isinstance(found, dict) and expected.keys() == found.keys(), f"{where}: {expected} and {found}")
        for key in expected:
            require_near(expected[key], found[key], f"{where}.{key}")
    elif isinstance(expected, list):
        check(isinstance(found, list) and len(expected) == len(found), f"{where}: {expected} and {found}")
        for i, (a, b) in enumerate(zip(expected, found)):
            require_near(a, b, f"{where}[{i}]")
    elif isinstance(expected, float) or isinstance(found, float):
        check(abs(expected - found) <= TOLERANCE * max(1, abs(expected)), f"{where}: {expected} and {found}")
    else:
        check(expected == found, f"{where}: {expected} and {found}")


def metrics(output):
    timing = {"seconds", "idle_share", "idle_shares", "exposed_communication"}
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in timing} for line in lines]


def apart(expected, found, name, what, mean_at_most):
    distances = [abs(a - b) for a, b in zip(weights(expected / name), weights(found / name))]
    worst, mean = max(distances), sum(distances) / len(distances)
    print(f"{what}: {name}: {mean:.1e} apart in the mean, {worst:.1e} at most")
    check(0 < worst < WEIGHTS and mean < mean_at_most, f"{what}: {name}: weights are too far apart")


def require_near_run(expected, found, what):
    require_near(metrics(expected), metrics(found), f"{what}: metrics.jsonl")
    # Answers shown, token for token; win rates, KL, lengths, ranks of fresh samples.
    require_near(json.loads((expected / "evaluation.json").read_text()), json.loads((found / "evaluation.json").read_text()), f"{what}: evaluation.json")
    for name in PRODUCTS[2:]:
        apart(expected, found, name, what, MEAN_OF_WEIGHTS)


def digests(output):
    return {name: digest(output / name) for name in PRODUCTS}


# Asked for instead of all else: the program as nvcc built it, with the stand-ins preloaded, gives the bits of the one that g++ built over them.
if "INFALIGN_PRELOAD" in os.environ:
    expected = fresh("compiled")
    start("cuda", expected, ranks=2)
    for stage in (0, 3):
        output = fresh(f"preloaded_{stage}")
        said = start("cuda", output, {**settings, "distributed.sharding": stage}, ranks=2,
                     program=("env", f"LD_PRELOAD={os.environ['INFALIGN_PRELOAD']}", str(PROGRAM)))
        check("on 2 ranks, a GPU each" in said, f"the log does not say that there are GPUs:\n{said}")
        require_same(digests(expected), digests(output), f"stage {stage}, preloaded")
    sys.exit()

# The CPU, and GPUs.
cpu = fresh("cpu")
check("on 1 rank, CPU" in start("cpu", cpu), "the log does not say CPU")
one = fresh("cuda_1")
said = start("auto", one)
check("on 1 rank, GPU (device: auto)" in said, f"the log does not say what `auto` became:\n{said}")
require_near_run(cpu, one, "GPU against CPU")
expected = digests(one)
for ranks, stage, group in ((2, 0, 0), (2, 2, 0), (2, 3, 0), (4, 2, 0), (4, 3, 0), (4, 3, 2)):
    output = fresh(f"cuda_{ranks}_{stage}_{group}")
    sharded = {**settings, "distributed.sharding": stage, "distributed.shard_ranks": group}
    memory = {"HOST_CUDA_MIB": LITTLE} if ranks == 4 else {}
    said = start("cuda", output, sharded, ranks=ranks, HOST_CUDA_SEED=str(ranks + stage + group), **memory)
    check(f"on {ranks} ranks, a GPU each" in said, f"the log does not say that there are GPUs:\n{said}")
    require_same(expected, digests(output), f"{ranks} ranks in stage {stage}, shuffled")
    print(f"{ranks} GPUs in stage {stage}{', groups of 2' if group else ''}: same bits", flush=True)
fast = {**settings, "distributed.reproducible": "false", "distributed.sharding": 0}
output = fresh("cuda_fast")
start("cuda", output, fast, ranks=2)
require_near_run(cpu, output, "fast mode, stage 0")

# A checkpoint is gone on with in another stage.
output = shutil.copytree(SCRATCH / "cuda_2_0_0", SCRATCH / "cuda_0_to_3", dirs_exist_ok=True)
shutil.rmtree(output / "checkpoints" / "infalign" / "step_000004")
for done in ("evaluation.json", ".stages/evaluate.json", ".stages/export-infalign.json"):
    (output / done).unlink()
said = start("cuda", output, {**settings, "distributed.sharding": 3}, ranks=2)
check("infalign/step_000002" in said and "resuming from" in said, f"nothing was gone on with:\n{said}")
require_same(expected, digests(output), "stage 0, then 3")

# A checkpoint of one device is gone on with on the other. There a reward no longer equals, to the last bit, that of the same answer in the
# calibration table, so that a rank may move by half a rollout, and what is made of it with it.
for came, goes_on in (("cuda_1", "cpu"), ("cpu", "cuda")):
    output = shutil.copytree(SCRATCH / came, SCRATCH / f"{came}_to_{goes_on}", dirs_exist_ok=True)
    shutil.rmtree(output / "checkpoints" / "infalign" / "step_000004")
    for done in ("evaluation.json", ".stages/evaluate.json", ".stages/export-infalign.json"):
        (output / done).unlink()
    said = start(goes_on, output, ranks=2)
    check("infalign/step_000002" in said and "resuming from" in said, f"nothing was gone on with:\n{said}")
    apart(cpu, output, "policies/infalign/model.safetensors", f"{came}, then {goes_on}", mean_at_most=1e-4)

# Adapters on a reference in bfloat16, after fine-tuning.
text = SCRATCH / "small" / "text.jsonl"
text.write_text("".join(json.dumps({"text": f"Once upon a time there was a dog and {i} cats."}) + "\n" for i in range(12)))
adapted = {**settings, "distributed.sharding": 3, "stages": "[finetune, reward, calibrate, align, evaluate, export]", "memory.reference": "bfloat16", "alignment.lora.rank": 4,
           "alignment.learning_rate": 1e-3, "finetune.text": text, "finetune.steps": 2, "finetune.sequences_per_step": 4,
           "finetune.sequence_length": 12, "memory.recompute_activations": "true"}
outputs = {}
for device in ("cpu", "cuda"):
    outputs[device] = fresh(f"lora_{device}")
    start(device, outputs[device], adapted, ranks=None if device == "cpu" else 2)
require_near_run(outputs["cpu"], outputs["cuda"], "LoRA")

# Everything in bfloat16, activations and cache too: the CPU's losses of training on given text, nearly (its answers are others, as numbers that decide
# about a token are rounded), sampler and trainer near each other, and the same bits on another number of ranks in another stage. A CPU that has no
# bfloat16 gives its losses in float32, which are somewhat further away.
processor = Path("/proc/cpuinfo").read_text().split()
cpu_dtype, loss_apart = ("bfloat16", 2e-3) if "avx512_bf16" in processor else ("float32", 1e-2)
narrow, losses = {}, {}
for name, device, ranks, stage in (("cpu", "cpu", None, 0), ("one", "cuda", 1, 0), ("two", "cuda", 2, 3)):
    narrow[name] = fresh(f"bfloat16_{name}")
    start(device, narrow[name], {**adapted, "dtype": cpu_dtype if device == "cpu" else "bfloat16", "distributed.sharding": stage}, ranks=ranks)
    losses[name] = [line["loss"] for line in metrics(narrow[name]) if line["stage"] in ("finetune", "reward")]
    gaps = [line["sampler_trainer_gap"] for line in metrics(narrow[name]) if line["stage"] == "align"]
    print(f"bfloat16, {name}: losses {losses[name]}, gaps {gaps}", flush=True)
    check(len(gaps) == 4 and max(gaps) < 0.05, f"bfloat16, {name}: sampler and trainer are apart by {gaps}")
check(max(abs(a - b) for a, b in zip(losses["cpu"], losses["one"], strict=True)) < loss_apart, f"losses in bfloat16: {losses}")
require_same(digests(narrow["one"]), digests(narrow["two"]), "bfloat16, 2 ranks in stage 3")

# The policy, and what else is trained, read in bfloat16 too, and rounded to it at random.
read_narrow = {**adapted, "alignment.lora.rank": 0, "alignment.learning_rate": 3e-4, "memory.policy": "bfloat16", "memory.stochastic_rounding": "true"}
for name, device, ranks, stage in (("cpu", "cpu", None, 0), ("one", "cuda", 1, 0), ("two", "cuda", 2, 1), ("stage 3", "cuda", 2, 3)):
    narrow[name] = fresh(f"read_in_bfloat16_{name.replace(' ', '_')}")
    start(device, narrow[name], {**read_narrow, "dtype": cpu_dtype if device == "cpu" else "bfloat16", "distributed.sharding": stage}, ranks=ranks)
    losses[name] = [line["loss"] for line in metrics(narrow[name]) if line["stage"] in ("finetune", "reward")]
    aligned = [line for line in metrics(narrow[name]) if line["stage"] == "align"]
    check(max(line["sampler_trainer_gap"] for line in aligned) < 0.05, f"read in bfloat16, {name}: sampler and trainer are apart")
    check(abs(aligned[0]["kl"]) < 0.02, f"read in bfloat16, {name}: the policy does not begin as the reference")
check(max(abs(a - b) for a, b in zip(losses["cpu"], losses["one"], strict=True)) < loss_apart, f"losses, read in bfloat16: {losses}")
require_same(digests(narrow["one"]), digests(narrow["two"]), "read in bfloat16, 2 ranks in stage 1")
require_same(digests(narrow["one"]), digests(narrow["stage 3"]), "read in bfloat16, 2 ranks in stage 3")

# Single commands.
def says(program, *arguments):
    return [json.loads(line) for line in run([program, *arguments]).stdout.splitlines()]


ask = ["generate", "--model", ROOT / "data" / "storyteller", "--prompt", "Once upon", "--samples", "2", "--max-new-tokens", "5", "--json"]
require_near(says(PROGRAM, *ask), says(CUDA_PROGRAM, *ask, "--device", "cuda"), "generate")
ask = ["score", "--model", one / "models" / "reward", "--storage", "bfloat16", "--inputs", text]
require_near(says(PROGRAM, *ask), says(CUDA_PROGRAM, *ask, "--device", "cuda"), "score")

# What cannot be.
done = run(command(config, fresh("refused"), {**settings, "device": "cuda"}), expect=2)
check("device: cuda: there is no GPU that this process can use" in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr)
done = run([PROGRAM, *ask, "--device", "cuda"], expect=2)
check("device: cuda: there is no GPU" in done.stderr, done.stderr)
said = start("cuda", fresh("shared"), ranks=2, expect=2, HOST_CUDA_IDENTITY="the only one")
check("device: cuda: more ranks than GPUs on a machine" in said, said)
said = start("cuda", fresh("small_memory"), ranks=4, expect=1, HOST_CUDA_MIB=LITTLE)
check("the GPU is out of memory" in said and "MiB asked for" in said and "distributed.micro_batch_prompts" in said, said)

# The plan of a GPU's memory, wherever it is asked for.
plan = run([PROGRAM, "check", config, "--set", "device=cuda", "--ranks", "4"]).stdout
check("Memory of a GPU, on 4 ranks" in plan and "key/value cache" in plan and "weights on their way to the GPU" in plan, plan)
