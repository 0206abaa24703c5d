"""Every stage of sharding gives the bits of one rank, adapters, and models and policies in bfloat16 too; so does one run's life on 1, 4, 2 and 3 ranks in
stages 0, 3, 1, 2 and 3, and with copies of the parameters. The timeline shows buckets reduced, and parameters fetched, while the rank computes."""
import array

from support import *

config, settings = small_config()
expected = fresh("alone")
run(command(config, expected, settings), timeout=300)


def with_sharding(stage, **more):
    return {**settings, "distributed.sharding": stage, **{key.replace("__", "."): value for key, value in more.items()}}


def spans(file):
    return [event for event in json.loads(Path(file).read_text())["traceEvents"] if event["ph"] == "X"]


def beside(outer, inner, events):
    """Whether a span `inner` begins within one of `outer` of the same rank, on another of its threads."""
    around = [event for event in events if event["name"] == outer]
    return any(i["pid"] == o["pid"] and i["tid"] != o["tid"] and o["ts"] < i["ts"] < o["ts"] + o["dur"]
               for i in events if i["name"] == inner for o in around)


for stage, ranks in ((0, 2), (2, 3), (3, 2), (3, 3)):
    output = fresh(f"stage_{stage}")
    run(command(config, output, with_sharding(stage), ranks) + ["--trace", f"{output}.json"], timeout=300)
    require_same(results(expected), results(output), f"stage {stage} on {ranks} ranks")
    names = {event["name"] for event in spans(f"{output}.json")}
    check("add gradients" in names and "ranks: reduce_scatter" in names, f"stage {stage}: no bucket in the timeline: {names}")
    steps = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    check(all(0 <= step["exposed_communication"] <= 1 for step in steps), "exposed_communication is a share")
    check(stage < 3 or any(step["exposed_communication"] > 0 for step in steps), "no pass waited for its first layer")
    print(f"stage {stage} on {ranks} ranks: same bits")

output = fresh("hybrid")
run(command(config, output, with_sharding(3, distributed__shard_ranks=2), 4), timeout=300)
require_same(results(expected), results(output), "stage 3 with a copy of the parameters in every two of 4 ranks")
said = run(command(config, fresh("hybrid_on_3"), with_sharding(3, distributed__shard_ranks=2), 3), expect=2).stderr
check("distributed.shard_ranks: groups of 2 ranks do not make 3" in said, said)
print("stage 3 in groups of 2 on 4 ranks: same bits")

check(beside("gradient", "add gradients", spans(f"{SCRATCH / 'stage_2'}.json")), "no bucket was on its way during a backward pass")
for pass_name in ("gradient", "sample", "reference", "rewards"):
    check(beside(pass_name, "fetch parameters", spans(f"{SCRATCH / 'stage_3'}.json")), f"no parameters were on their way during {pass_name}")

# Adapters on a reference that is sharded, in bfloat16; a model that is fine-tuned, and one from the beginning, or an adapter on it.
narrow = {"memory.reference": "bfloat16", "memory.reward": "bfloat16", "alignment.lora.rank": 4, "reward.lora.rank": 4, "alignment.variants": "[{name: infalign}]",
          "memory.recompute_activations": "true"}
files = ["calibration.h5", "evaluation.json", "models/reward/model.safetensors", "policies/infalign/model.safetensors"]
text = SCRATCH / "small" / "text.txt"
text.write_text("\n\n".join(json.loads(line)["chosen"] for line in (ROOT / "data" / "preferences.jsonl").read_text().splitlines()[:60]))
tuning = {"stages": "[finetune]", "finetune.initial": ROOT / "data" / "storyteller", "finetune.text": text, "finetune.steps": 3, "finetune.sequences_per_step": 8,
          "finetune.sequence_length": 32}
policy = {"memory.reference": "bfloat16", "memory.policy": "bfloat16", "memory.stochastic_rounding": "true"}
cases = {"narrow": ({**settings, **narrow}, files)}
for name, more in (("tuned", {}), ("from_scratch", {"finetune.from_scratch": "true"}), ("tuned_adapter", {"finetune.lora.rank": 4}), ("tuned_in_bfloat16", policy)):
    cases[name] = ({**settings, **tuning, **more}, ["models/finetuned/model.safetensors"])
for name, (changes, made) in cases.items():
    alone, sharded = fresh(name), fresh(f"{name}_sharded")
    said = run(command(config, alone, changes), timeout=300).stderr
    also = run(command(config, sharded, {**changes, "distributed.sharding": 3}, 3), timeout=300).stderr
    require_same({file: digest(alone / file) for file in made}, {file: digest(sharded / file) for file in made}, f"{name} in stage 3")
    nll = [[line.split(" nats")[0].split()[-1] for line in lines.splitlines() if "nats a token" in line] for lines in (said, also)]
    check(nll[0] == nll[1], f"{name}: {nll}")
    print(f"{name} in stage 3 on 3 ranks: same bits")


# A policy, and a reward model in training, that passes read in bfloat16: on any ranks, and stopped in between.
in_bfloat16 = {**settings, **policy, "alignment.variants": "[{name: infalign}]"}
alone = fresh("policy")
run(command(config, alone, in_bfloat16), timeout=300)
made = {file: digest(alone / file) for file in files}
for ranks, stage, group in ((2, 0, 0), (3, 1, 0), (3, 2, 0), (2, 3, 0), (4, 3, 2)):
    output = fresh(f"policy_{stage}_{group}")
    run(command(config, output, {**in_bfloat16, "distributed.sharding": stage, "distributed.shard_ranks": group}, ranks), timeout=300)
    require_same(made, {file: digest(output / file) for file in files}, f"a policy in bfloat16 in stage {stage} on {ranks} ranks")
output = shutil.copytree(SCRATCH / "policy_1_0", SCRATCH / "policy_1_to_3", dirs_exist_ok=True)
shutil.rmtree(output / "checkpoints" / "infalign" / "step_000006")
for done in ("evaluation.json", ".stages/evaluate.json", ".stages/export-infalign.json"):
    (output / done).unlink()
said = run(command(config, output, {**in_bfloat16, "distributed.sharding": 3}, 2), timeout=300).stderr
check("infalign/step_000004" in said and "resuming from" in said, f"nothing was gone on with:\n{said}")
require_same(made, {file: digest(output / file) for file in files}, "a policy in bfloat16, gone on with in stage 3")
nearest = fresh("policy_to_the_nearest")
run(command(config, nearest, {**in_bfloat16, "memory.stochastic_rounding": "false"}), timeout=300)
check(digest(nearest / files[-1]) != made[files[-1]], "rounding at random makes no difference")
print("a policy in bfloat16: same bits")


def values(file):
    """All float32 values of a safetensors file."""
    data = file.read_bytes()
    return array.array("f", data[8 + int.from_bytes(data[:8], "little"):])


# Sums in float32, in whichever order: within 1e-5.
fast = {**settings, "stages": "[reward]", "distributed.reproducible": "false"}
models = []
for stage, ranks in ((1, None), (3, 3)):
    output = fresh(f"fast_{stage}")
    run(command(config, output, {**fast, "distributed.sharding": stage}, ranks), timeout=300)
    models.append(values(output / "models/reward/model.safetensors"))
distance = max(abs(a - b) for a, b in zip(*models))
print(f"fast mode: parameters within {distance:.2g} of each other")
check(len(models[0]) == len(models[1]) and distance < 1e-5, f"fast mode in stage 3 is {distance} away")

# One run's life: stopped after a step, it goes on elsewhere.
output = fresh("life")
stops = 0
for number, (ranks, stage, group) in enumerate([(None, 0, 0), (4, 3, 0), (2, 1, 0), (4, 3, 2), (3, 2, 0), (3, 3, 0)] + [(2, 1, 0)] * 20):
    arguments = command(config, output, with_sharding(stage, distributed__shard_ranks=group), ranks)
    process = subprocess.Popen(arguments, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = output / "metrics.jsonl"
    before = metrics.stat().st_size if metrics.exists() else 0
    if number < 6:
        while process.poll() is None and not (metrics.exists() and metrics.stat().st_size > before):
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGUSR1)
    out, err = process.communicate(timeout=120)
    if process.returncode == 0:
        break
    check(process.returncode == 75, f"exit code {process.returncode} instead of 75:\n{err}")
    stops += 1
check(process.returncode == 0 and stops >= 4, f"never finished, or stopped {stops} times only")
require_same(results(expected), results(output), "after a life in several stages")
print(f"{stops} stops: same bits")
