"""Policies and a reward model trained as adapters: the same bits on 1 and 2 ranks and after a kill; adapters as folders that go out and come in."""
from support import *

config, settings = small_config()
settings = {**settings, "reward.lora.rank": 4, "alignment.lora": "{rank: 4, alpha: 8, targets: [q_proj, v_proj, down_proj]}",
            "alignment.variants.0.lora": "{rank: 0}", "alignment.variants.2.lora": "{rank: 2, targets: all-linear}", "alignment.learning_rate": 1e-3}

one = fresh("one")
run(command(config, one, settings), timeout=300)
expected = results(one)
two = fresh("two")
run(command(config, two, settings, 2), timeout=300)
require_same(expected, results(two), "two ranks against one")

# Killed in the midst of a variant that is an adapter; gone on with on two ranks.
killed = fresh("killed")
process = subprocess.Popen(command(config, killed, settings), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
checkpoints = killed / "checkpoints" / "calibrated"
while not (checkpoints / "step_000002").exists():
    check(process.poll() is None, "the run ended before it could be killed")
    time.sleep(0.002)
process.kill()
process.wait()
check(not (checkpoints / "step_000006").exists(), "killed too late")
again = run(command(config, killed, settings, 2), timeout=300)
check("resuming from" in again.stderr, f"nothing was gone on with:\n{again.stderr}")
require_same(expected, results(killed), "killed and gone on with")

# The optimizer and the checkpoints hold the adapter alone.
listing = run(["h5ls", "-r", sorted(checkpoints.glob("step_*"))[-1] / "checkpoint.h5"]).stdout
check("/optimizer/first_moment/base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in listing, f"no adapter in:\n{listing}")
check("embed_tokens" not in listing, f"the frozen weights are in:\n{listing}")

for line in (one / "metrics.jsonl").read_text().splitlines():
    step = json.loads(line)
    check(step["stage"] != "align" or step["sampler_trainer_gap"] < 1e-4, f"sampler and trainer disagree: {step}")
    check(step["gradient_norm"] > 0, f"nothing was trained: {step}")

# Exported as an adapter, a policy is the same; as a folder of its own, and beside its base.
merged = {name: one / "policies" / name for name in ("raw", "calibrated", "infalign")}
kept = {name: shutil.copytree(folder, SCRATCH / "merged" / name, dirs_exist_ok=True) for name, folder in merged.items()}
run(command(config, one, {**settings, "export.lora": "adapter"}), timeout=300)
check((merged["raw"] / "model.safetensors").exists(), "a policy that is no adapter is a model folder")
text = SCRATCH / "texts.jsonl"
text.write_text('{"text": "Once upon a time there was a dog."}\n{"prompt": "One day", "response": " he was happy."}\n')


def logprobs(*arguments):
    return [json.loads(line)["logprobs"] for line in run([PROGRAM, "score", "--inputs", text, *arguments]).stdout.splitlines()]


for name in ("calibrated", "infalign"):
    folder = merged[name]
    check(sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"], f"not an adapter: {list(folder.iterdir())}")
    whole = logprobs("--model", kept[name])
    for arguments in (["--model", folder], ["--model", ROOT / "data" / "storyteller", "--adapter", folder]):
        worst = max(abs(a - b) for x, y in zip(whole, logprobs(*arguments)) for a, b in zip(x, y))
        check(worst < 1e-5, f"{name}: adapter and merged model are {worst} apart")
base = logprobs("--model", ROOT / "data" / "storyteller")
check(max(abs(a - b) for x, y in zip(base, whole) for a, b in zip(x, y)) > 1e-4, "the adapter changes nothing")
about = json.loads(run([PROGRAM, "inspect", merged["infalign"], "--json"]).stdout)
check(about["kind"] == "adapter" and about["config"]["r"] == 2, f"inspect does not know an adapter: {about}")
answer = run([PROGRAM, "generate", "--model", merged["infalign"], "--prompt", "One day", "--greedy", "--max-new-tokens", 8]).stdout
check(answer.strip(), "an adapter generates nothing")

# An adapter is a reference like any other.
follow = {key: value for key, value in settings.items() if not key.startswith("alignment.variants") and key != "alignment.lora"}
follow |= {"model.reference": merged["calibrated"], "alignment.variants": "[{transform: identity}]"}
output = fresh("follow")
run(command(config, output, follow), timeout=300)
check((output / "policies" / "identity" / "config.json").exists(), "no whole model came of an adapter")

# Fine-tuning takes an adapter too, and leaves a whole model.
stories = SCRATCH / "stories.txt"
stories.write_text("\n\n".join(json.loads(line)["chosen"] for line in (ROOT / "data" / "preferences.jsonl").read_text().splitlines()[:128]))
tuning = {"stages": "[finetune]", "finetune.text": stories, "finetune.steps": 8, "finetune.sequences_per_step": 120, "finetune.sequence_length": 32, "finetune.lora.rank": 4,
          "finetune.learning_rate": 3e-3}
tuned = [fresh(f"tuned_on_{ranks}") for ranks in (1, 2)]
for output, ranks in zip(tuned, (None, 2)):
    run(command(config, output, {**settings, **tuning}, ranks), timeout=120)
losses = [json.loads(line)["loss"] for line in (tuned[0] / "metrics.jsonl").read_text().splitlines()]
check(losses[-1] < losses[0], f"nothing was learned: {losses}")
check(digest(tuned[0] / "models/finetuned/model.safetensors") == digest(tuned[1] / "models/finetuned/model.safetensors"), "two ranks tune otherwise than one")

# What is wrong is said in one line, with what would be right.
for changes, code, words in (({"alignment.lora.targets": "[c_attn]"}, 2, "alignment.lora.targets: no module of this model is called c_attn; there are q_proj, k_proj"),
                             ({"alignment.lora.rank": -1}, 2, "alignment.lora.rank: expected whole number, at least 0"),
                             ({"alignment.lora.targets": "[]"}, 2, "alignment.lora.targets: expected text or list of texts")):
    for subcommand in ("run", "check"):
        arguments = command(config, fresh("wrong"), {**settings, **changes})
        arguments[1] = subcommand
        refused = run(arguments, expect=code)
        check(words in refused.stderr, f"{changes}: {refused.stderr}")
broken = SCRATCH / "broken"
shutil.copytree(merged["infalign"], broken, dirs_exist_ok=True)
about = json.loads((broken / "adapter_config.json").read_text())
for change, words in (({"use_dora": True}, "use_dora is true, which is not computed"), ({"base_model_name_or_path": "nobody/nothing"}, "which is no model folder here"),
                      ({"peft_type": "IA3"}, "peft_type is \"IA3\""), ({"r": 3}, "has shape"), ({"bias": "all"}, "adapters that train biases are not read")):
    (broken / "adapter_config.json").write_text(json.dumps({**about, **change}))
    refused = run([PROGRAM, "score", "--model", broken, "--inputs", text], expect=3)
    check(words in refused.stderr, f"{change}: {refused.stderr}")
print("adapters: same bits, out and in")
