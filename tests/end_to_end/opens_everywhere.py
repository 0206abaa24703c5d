"""The files of a run open with the tools people have: h5ls, h5dump, h5py, `infalign inspect`; a check's text is a configuration; a policy samples through Best-of-N."""
from support import *

config, settings = small_config()
output = fresh("opens")

# A check's text is a configuration again, and nothing is made by it.
check_command = [argument if argument != "run" else "check" for argument in command(config, output / "planned", settings)]
text = run(check_command + ["--ranks", 4]).stdout
check("# Memory per rank, on 4 ranks" in text, f"no plan in:\n{text}")
again = fresh("again") / "resolved.yaml"
again.write_text(text)
plan = json.loads(run([PROGRAM, "check", again, "--json", "--gflops", 50]).stdout)
check(text.startswith(plan["configuration"]), "checked again, the configuration is another")
check(plan["cost"]["gflops"] == 50 and plan["memory"]["peak"] > 0 and plan["models"]["reward"]["made_by_run"], f"not a plan: {plan}")
check(not (output / "planned").exists(), "a check made the output folder")

run(command(config, output, settings, 2), timeout=300)

checkpoint = sorted((output / "checkpoints" / "infalign").glob("step_*"))[-1] / "checkpoint.h5"
listing = run(["h5ls", "-r", checkpoint]).stdout
for dataset in ("/model/model.embed_tokens.weight", "/optimizer/first_moment/model.norm.weight", "/optimizer/second_moment/model.norm.weight"):
    check(dataset in listing, f"h5ls does not show {dataset}:\n{listing}")
run(["h5dump", "-d", "/model/model.norm.weight", checkpoint])
listing = run(["h5ls", "-r", output / "calibration.h5"]).stdout
for dataset in ("/prompts/text", "/prompts/id", "/rewards", "/pooled/counts"):
    check(dataset in listing, f"h5ls does not show {dataset}:\n{listing}")

program = """
import h5py, json, struct, sys, numpy
checkpoint, weights = sys.argv[1:]
file = h5py.File(checkpoint)
assert file.attrs["complete"] == 1 and file.attrs["step"] == 6, dict(file.attrs)
data = open(weights, "rb").read()
size = struct.unpack("<Q", data[:8])[0]
header = json.loads(data[8:8 + size])
for name, entry in header.items():
    if name == "__metadata__": continue
    begin, end = entry["data_offsets"]
    exported = numpy.frombuffer(data[8 + size + begin:8 + size + end], "<f4").reshape(entry["shape"])
    assert numpy.array_equal(file["model"][name][...], exported), name
print(len(header) - 1, "tensors equal")
"""
run(["/usr/bin/python3", "-c", program, checkpoint, output / "policies" / "infalign" / "model.safetensors"])

for path in (checkpoint.parent, output / "calibration.h5", output / "policies" / "infalign"):
    check(run([PROGRAM, "inspect", path]).stdout.strip(), f"inspect says nothing of {path}")
    files = json.loads(run([PROGRAM, "inspect", "--verify", path, "--json"]).stdout)
    check(files["sound"] and files["files"], f"{path} is damaged: {files}")
    json.loads(run([PROGRAM, "inspect", path, "--json"]).stdout)

# One flipped bit in one shard: found, and that file named.
damaged = output / "damaged"
shutil.copytree(checkpoint.parent, damaged)
shard = sorted(damaged.glob("shard_*.h5"))[-1]
content = bytearray(shard.read_bytes())
content[len(content) // 2] ^= 1
shard.write_bytes(content)
told = run([PROGRAM, "inspect", "--verify", damaged], expect=3).stdout
check([line for line in told.splitlines() if line.startswith("DAMAGED") and str(shard) in line], f"{shard} is not named:\n{told}")
check(told.count("DAMAGED") == 1, f"more than one file is named:\n{told}")

answer = json.loads(run([PROGRAM, "generate", "--model", output / "policies" / "infalign", "--prompt", "One day, there was a dog.", "--procedure", "best_of_n",
                         "--n", 4, "--reward", output / "models" / "reward", "--max-new-tokens", 8, "--json", "--verbose"]).stdout)
check(answer["reward"] == max(c["reward"] for c in answer["candidates"]), f"not the best of four: {answer}")
check(len(answer["candidates"]) == 4, f"not four candidates: {answer}")
rewards = [candidate["reward"] for candidate in answer["candidates"]]
for procedure, expected in (("kth_of_n:4:k=3", sorted(rewards)[2]), ("worst_of_n:4", min(rewards)),
                            (f"retry_until:4:threshold={rewards[1]}", next(r for r in rewards if r >= rewards[1])),
                            (f"retry_until:4:threshold={max(rewards) + 1}", rewards[3])):
    other = json.loads(run([PROGRAM, "generate", "--model", output / "policies" / "infalign", "--prompt", "One day, there was a dog.",
                            "--procedure", procedure, "--reward", output / "models" / "reward", "--max-new-tokens", 8, "--json"]).stdout)
    check(other["reward"] == expected, f"{procedure} of {rewards} gave {other}")

again = run(command(config, output, settings, 2), timeout=60)
check("kept" in again.stderr, f"a finished run was not recognised:\n{again.stderr}")
print("all open")
