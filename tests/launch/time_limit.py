"""A time limit, counted from the start of the job: exit code 75 after a checkpoint, on all ranks, before the time is over; then the run goes on. Slurm's time
counts as well."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "end_to_end"))
from support import *  # noqa: E402, F403

EXPERIMENT = """name: limited
seed: 1
output: OUTPUT
stages: [calibrate, align]
synthetic: {prompts: 32, responses: 64}
inference: {procedure: best_of_n, n: 4}
calibration: {rollouts_per_prompt: 64}
alignment: {transform: optimal, target_kl: 0.5, steps: 1000000, prompts_per_step: 16, samples_per_prompt: 16}
distributed: {micro_batch_prompts: 4, watchdog_seconds: 20}
checkpoint: {every: 1000000}
"""

output = fresh("output")
path = SCRATCH / "limited.yaml"
path.write_text(EXPERIMENT.replace("OUTPUT", str(output)))


def steps():
    return sorted(int(folder.name[5:]) for folder in (output / "checkpoints" / "optimal").glob("step_*"))


def limited(ranks, environment, *settings):
    ENVIRONMENT.update(environment)
    start = time.time()
    done = run(command(path, output, dict(settings), ranks), expect=None, timeout=50)
    for name in environment:
        del ENVIRONMENT[name]
    codes = (75,)
    check(done.returncode in codes, f"exit code {done.returncode} instead of 75:\n{done.stderr}")
    check("start again" in done.stderr, f"how to go on is not said:\n{done.stderr}")
    return time.time() - start


seconds = limited(2, {"INFALIGN_JOB_START": str(int(time.time()) - 51)}, ("checkpoint.time_limit", 1.0))
first = steps()
check(len(first) == 1, f"checkpoints {first} instead of one")
check(seconds < 9 + 10, f"stopped after {seconds:.1f} s of 9")  # with room for a busy machine's start
limited(None, {"SLURM_JOB_END_TIME": str(int(time.time()) + 8)})
check(steps()[-1] > first[-1], "it did not go on")
limited(2, {}, ("checkpoint.time_limit", 0.05))
print(f"stopped after {seconds:.1f} s of 9, at steps {first[-1]} and {steps()[-1]}")
