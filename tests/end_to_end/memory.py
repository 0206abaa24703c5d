"""What saves memory changes no bit where it promises so, and `check` says what a run takes, within a tenth."""
from support import *

config, settings = small_config()
settings = {**settings, "alignment.variants": "[{name: infalign}]", "alignment.learning_rate": 1e-3}
policy = "policies/infalign/model.safetensors"
made = ["calibration.h5", "evaluation.json", "models/reward/model.safetensors", policy]


def made_with(name, changes, ranks=None):
    output = fresh(name)
    run(command(config, output, {**settings, **changes}, ranks), timeout=300)
    return {file: digest(output / file) for file in made}, output


expected, _ = made_with("all_kept", {})
again, _ = made_with("computed_again", {"memory.recompute_activations": "true"}, 2)
require_same(expected, again, "blocks computed once more")

# An adapter on a reference in bfloat16, its reward model in bfloat16 too.
narrow = {"memory.recompute_activations": "true", "memory.reference": "bfloat16", "memory.reward": "bfloat16", "alignment.lora.rank": 4}
expected, output = made_with("narrow", narrow)
again, _ = made_with("narrow_on_two", narrow, 2)
require_same(expected, again, "two ranks against one, in bfloat16")
for line in (output / "metrics.jsonl").read_text().splitlines():
    step = json.loads(line)
    check(step["stage"] != "align" or step["sampler_trainer_gap"] < 1e-4, f"sampler and trainer disagree: {step}")
    check(step["stage"] != "align" or step["step"] > 1 or abs(step["kl"]) < 1e-4, f"the policy does not begin as the reference: {step}")

# A whole policy starts from the reference's rounded weights, in float32.
_, output = made_with("narrow_reference", {"memory.reference": "bfloat16"})
first = json.loads(next(line for line in (output / "metrics.jsonl").read_text().splitlines() if '"align"' in line))
check(abs(first["kl"]) < 1e-4, f"the policy does not begin as the reference: {first}")

# A whole policy that passes read in bfloat16, near the one that they read in float32. It begins as the reference, and at the first step has its loss.
in_bfloat16 = {"memory.reference": "bfloat16", "memory.policy": "bfloat16"}
_, output = made_with("narrow_policy", in_bfloat16)


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


aligned = [line for line in metrics(output) if line["stage"] == "align"]
check(abs(aligned[0]["kl"]) < 1e-4 and max(line["sampler_trainer_gap"] for line in aligned) < 1e-4, f"the policy does not begin as the reference: {aligned}")
losses = [[line["loss"] for line in metrics(folder) if line["stage"] == "reward"] for folder in (output, SCRATCH / "all_kept")]
print("losses of the reward model, read in bfloat16 and in float32:", losses)
check(losses[0] != losses[1] and max(abs(a - b) for a, b in zip(*losses, strict=True)) < 0.01, f"{losses}")

# The peak that check foretells, and the one that a run has. Micro-batches are large enough to count beside the program.
large = {**settings, "prompts.max_train": 16, "prompts.max_heldout": 8, "sampling.max_new_tokens": 16, "calibration.rollouts_per_prompt": 16, "alignment.steps": 1,
         "alignment.prompts_per_step": 16, "alignment.samples_per_prompt": 32, "evaluation.samples_per_prompt": 8, "distributed.micro_batch_prompts": 16}
for name, changes in (("whole", {}), ("adapter", {"alignment.lora.rank": 8, "reward.lora.rank": 8}), ("again", {"memory.recompute_activations": "true"}),
                      ("narrow", {**narrow, "reward.lora.rank": 8}), ("narrow_policy", in_bfloat16)):
    arguments = command(config, fresh(f"peak_{name}"), {**large, **changes})
    foretold = json.loads(run([arguments[0], "check", *arguments[2:], "--json"]).stdout)["memory"]["peak"]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    _, status, usage = os.wait4(process.pid, 0)
    check(status == 0, f"{name}: the run failed")
    ratio = foretold / (usage.ru_maxrss * 1024)
    print(f"{name}: foretold {foretold / 2**20:.0f} MiB, {ratio:.3f} of what it was")
    check(0.9 < ratio < 1.1, f"{name}: check says {foretold}, the run took {usage.ru_maxrss * 1024}")
