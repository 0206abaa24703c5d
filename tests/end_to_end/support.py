"""What the end-to-end tests share: the program, a run small enough to be repeated many times, and comparison to the bit.

Every test is a Python program of its own (standard library only) that exits non-zero when something does not hold. CMake gives it the
program's path and a scratch folder.
"""
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = Path(os.environ["INFALIGN_PROGRAM"])
SCRATCH = Path(os.environ["INFALIGN_SCRATCH"])
MPIRUN = os.environ.get("INFALIGN_MPIRUN", "mpirun")

ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMP_NUM_THREADS": "1"}

# The quick start, reduced to seconds: all stages, two variants.
SMALL = {
    "reward.epochs": 1, "reward.pairs_per_step": 32,
    "prompts.max_train": 12, "prompts.max_heldout": 6,
    "sampling.max_new_tokens": 8,
    "calibration.rollouts_per_prompt": 8,
    "alignment.steps": 6, "alignment.prompts_per_step": 8, "alignment.samples_per_prompt": 4, "alignment.warmup_steps": 1,
    "distributed.micro_batch_prompts": 2, "evaluation.samples_per_prompt": 6, "evaluation.examples": 2, "checkpoint.every": 2,
}


def command(config, output, settings, ranks=None):
    arguments = [PROGRAM, "run", config, "--set", f"output={output}"]
    for key, value in settings.items():
        arguments += ["--set", f"{key}={value}"]
    if ranks is not None:
        arguments = [MPIRUN, "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] + arguments
    return [str(a) for a in arguments]


def small_config(name="quickstart"):
    """A copy of the configuration with few preferences, so that the reward stage takes a second."""
    folder = SCRATCH / "small"
    folder.mkdir(parents=True, exist_ok=True)
    preferences = folder / "preferences.jsonl"
    lines = (ROOT / "data" / "preferences.jsonl").read_text().splitlines(keepends=True)[:256]
    preferences.write_text("".join(lines))
    return ROOT / "configs" / f"{name}.yaml", {**SMALL, "reward.preferences": preferences}


def run(arguments, expect=0, timeout=120, **more):
    done = subprocess.run([str(a) for a in arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout, env=ENVIRONMENT, **more)
    if expect is not None:
        check(done.returncode == expect, f"exit code {done.returncode} instead of {expect}:\n{' '.join(map(str, arguments))}\n{done.stdout}\n{done.stderr}")
    return done


def check(condition, message):
    if not condition:
        sys.exit(f"FAILED: {message}")


def fresh(name):
    folder = SCRATCH / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


# What must not depend on the number of ranks nor on interruptions.
RESULTS = ["calibration.h5", "evaluation.json", "models/reward/model.safetensors"] + [
    f"policies/{variant}/model.safetensors" for variant in ("raw", "calibrated", "infalign")]


def results(output):
    return {name: digest(output / name) for name in RESULTS}


def require_same(expected, found, what):
    different = [name for name in expected if expected[name] != found[name]]
    check(not different, f"{what}: {', '.join(different)} differ")
