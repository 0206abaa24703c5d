#!/usr/bin/env python3
"""Quantiles of ten million rewards: our sketch beside Apache DataSketches KLL and sorting, on the same numbers.

    pip install datasketches numpy                # in an environment of its own
    benchmarks/peers/sketch.py build/benchmark/benchmarks/sketch_of_file

Rewards are numpy.random.default_rng(0).standard_normal(n, dtype=float32). Times are CPU seconds of one thread, the
best of three. "Rank error" is the largest distance, over the levels 0.01, 0.02 ... 0.99, between what the method says
is the mid-rank of the reward at that level and what it is.
"""
import argparse
import json
import subprocess
import tempfile
import time

import numpy as np
from datasketches import kll_floats_sketch

LEVELS = np.arange(1, 100) / 100


def timed(work):
    """(seconds of CPU time, result), the best of three."""
    best, result = float("inf"), None
    for _ in range(3):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return best, result


def mid_ranks(ordered, values):
    below = np.searchsorted(ordered, values, "left")
    through = np.searchsorted(ordered, values, "right")
    return (below + through) / (2 * len(ordered))


def kll(k, rewards):
    sketch = kll_floats_sketch(k)
    sketch.update(rewards)
    return sketch


def rows(program, rewards):
    """(method, seconds, bytes each rank sends, worst rank error) of each method."""
    sort_seconds, ordered = timed(lambda: np.sort(rewards))
    at = ordered[(LEVELS * (len(ordered) - 1)).astype(np.int64)]
    truth = mid_ranks(ordered, at)
    with tempfile.NamedTemporaryFile() as file:
        rewards.tofile(file)
        file.flush()
        ours = json.loads(subprocess.run([program, file.name], check=True, capture_output=True, text=True).stdout)

    values, ranks = np.array(ours["cumulative"]).T
    worst = np.abs(ranks - mid_ranks(ordered, values.astype(np.float32))).max()
    yield "infalign sketch, one pass", ours["sketch_seconds"], ours["sketch_bytes"], f"{worst:.1e}"

    wanted = np.minimum(len(ordered) - 1, np.floor(LEVELS * len(ordered)).astype(np.int64))
    exact = np.array_equal(np.array(ours["refined_quantiles"], np.float32), ordered[wanted])
    yield ("infalign, second pass for 99 quantiles", ours["sketch_seconds"] + ours["refinement_seconds"],
           ours["sketch_bytes"] + ours["refinement_bytes"], "0 (exact)" if exact else "WRONG")

    for k in 200, 800:
        seconds, sketch = timed(lambda: kll(k, rewards))
        # Its ranks are of values below or equal, and below: the middle of both.
        estimate = [(sketch.get_rank(x, True) + sketch.get_rank(x, False)) / 2 for x in at]
        yield f"KLL, k = {k}", seconds, len(sketch.serialize()), f"{np.abs(estimate - truth).max():.1e}"
    yield "numpy.sort", sort_seconds, rewards.nbytes, "0 (exact)"
    yield "std::sort", ours["sort_seconds"], rewards.nbytes, "0 (exact)"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program", help="the built sketch_of_file")
    parser.add_argument("--values", type=int, default=10_000_000)
    options = parser.parse_args()
    rewards = np.random.default_rng(0).standard_normal(options.values, dtype=np.float32)
    print("| method | CPU seconds | bytes a rank sends | worst rank error |\n|---|---|---|---|")
    for method, seconds, size, error in rows(options.program, rewards):
        print(f"| {method} | {seconds:.3f} | {size:,} | {error} |")


if __name__ == "__main__":
    main()
