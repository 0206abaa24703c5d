#!/usr/bin/env python3
"""How a step of alignment scales, on paper: a discrete-event model of ranks that sample answers of different length, train on them, exchange gradients and
parameters, write checkpoints and fail, calibrated on what is measured here.

    benchmarks/scaling.py measure [--program build/release/infalign]     prints what the model takes from this machine, as JSON
    benchmarks/scaling.py tables [--calibration FILE]                    the tables of docs/scaling.md

Standard library only. Random numbers are seeded: the same tables each time.
"""
import argparse
import heapq
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# ---- what is modelled ------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """Seconds of one rank."""
    parameters: float
    per_sampled_token: float   # of each answer's token, drawn
    per_decoding_step: float   # whatever the number of answers: reading the weights once
    per_trained_token: float   # rewards, reference and gradient, of each token of an answer
    optimizer_per_parameter: float  # of the rank's own share
    layers: int = 1            # gathered one after the other in stage 3


@dataclass(frozen=True)
class Work:
    lengths: tuple             # of answers, drawn from
    spread: float              # between prompts: a prompt's answers are longer or shorter by e^(spread z)
    micro_batch_prompts: int
    samples_per_prompt: int
    micro_batches_per_rank: int


@dataclass(frozen=True)
class Cluster:
    latency: float             # seconds of one message
    bandwidth: float           # bytes a second of one rank's link
    host_bandwidth: float      # the same between ranks of one host
    ranks_per_host: int
    disk_rank: float           # bytes a second that one rank writes
    disk_all: float            # that the file system takes from all
    per_file: float            # seconds of the root rank for each shard of a checkpoint
    host_mtbf: float           # seconds between two failures of one host
    notice: float              # from a failure to the end of all ranks: the watchdog
    restart: float             # until the first step goes on


def tree(ranks):
    return math.ceil(math.log2(ranks)) if ranks > 1 else 0


def reduce_scatter(cluster, ranks, size):
    return (tree(ranks) * cluster.latency + size * (ranks - 1) / ranks / cluster.bandwidth) if ranks > 1 else 0


all_gather = reduce_scatter  # the same data the other way round


def all_reduce(cluster, ranks, size):
    return reduce_scatter(cluster, ranks, size) + all_gather(cluster, ranks, size)


# ---- the events ------------------------------------------------------------------------------------------------------------------------------------------


class Simulation:
    """Ranks as generators that yield ("work", seconds) or ("meet", seconds): a meeting begins when the last has come and takes so long."""

    def __init__(self, ranks):
        self.ranks, self.events, self.number, self.now = ranks, [], 0, 0.0
        self.waiting, self.busy = [], [0.0] * ranks

    def at(self, time, rank):
        self.number += 1
        heapq.heappush(self.events, (time, self.number, rank))

    def run(self, behaviour):
        processes = [behaviour(rank) for rank in range(self.ranks)]
        for rank in range(self.ranks):
            self.at(0.0, rank)
        while self.events:
            self.now, _, rank = heapq.heappop(self.events)
            try:
                what, seconds = next(processes[rank])
            except StopIteration:
                continue
            if what == "work":
                self.busy[rank] += seconds
                self.at(self.now + seconds, rank)
                continue
            self.waiting.append(rank)
            if len(self.waiting) == self.ranks:
                for each in sorted(self.waiting):
                    self.at(self.now + seconds, each)
                self.waiting = []
        return self.now


def micro_batch_seconds(rng, model, work):
    tokens, longest = 0, 0
    for _ in range(work.micro_batch_prompts):
        factor = math.exp(work.spread * rng.gauss(0, 1))
        for _ in range(work.samples_per_prompt):
            length = max(1, round(rng.choice(work.lengths) * factor))
            tokens += length
            longest = max(longest, length)
    return longest * model.per_decoding_step + tokens * (model.per_sampled_token + model.per_trained_token)


def step_seconds(model, work, cluster, ranks, reproducible, steps=10, seed=1):
    """Of one step, and the share of a rank's time in it that is work, over some steps; micro-batches are dealt out as infalign deals them."""
    sum_bytes = model.parameters * (8 if reproducible else 4)
    rngs = [random.Random(seed * 1_000_003 + rank) for rank in range(ranks)]

    def behaviour(rank):
        for _ in range(steps):
            for _ in range(work.micro_batches_per_rank):
                yield "work", micro_batch_seconds(rngs[rank], model, work)
            yield "meet", all_reduce(cluster, ranks, 8) + all_gather(cluster, ranks, 40 * ranks * work.micro_batches_per_rank * work.micro_batch_prompts * work.samples_per_prompt)
            yield "meet", reduce_scatter(cluster, ranks, sum_bytes)
            yield "work", model.optimizer_per_parameter * model.parameters / ranks
            yield "meet", all_gather(cluster, ranks, 4 * model.parameters)

    simulation = Simulation(ranks)
    total = simulation.run(behaviour)
    return total / steps, statistics.mean(simulation.busy) / total


def checkpoint_seconds(model, cluster, ranks):
    size = 12 * model.parameters
    return size / min(cluster.disk_all, ranks * cluster.disk_rank) + cluster.per_file * ranks


def run_seconds(step, checkpoint, every, cluster, ranks, steps, seed=1):
    """Of a whole run: steps, checkpoints, failures at random times, after each of which the steps since the last checkpoint are done again."""
    rng = random.Random(seed)
    rate = max(1, ranks // cluster.ranks_per_host) / cluster.host_mtbf
    now, done, saved = 0.0, 0, 0
    failure = rng.expovariate(rate)
    while done < steps:
        due = (done + 1) % every == 0
        end = now + step + (checkpoint if due else 0)
        if end > failure:
            now = failure + cluster.notice + cluster.restart
            failure = now + rng.expovariate(rate)
            done = saved
            continue
        now, done = end, done + 1
        if due:
            saved = done
    return now


def best_interval(step, checkpoint, cluster, ranks):
    """Young's rule: the square root of twice the checkpoint's time and the time between failures."""
    between = cluster.host_mtbf / max(1, ranks // cluster.ranks_per_host)
    return max(1, round(math.sqrt(2 * checkpoint * between) / step))


def gathering_seconds(model, work, cluster, group, seed=1):
    """What stage 3 adds to a micro-batch where `group` ranks divide all models (distributed.shard_ranks): the parameters of others, fetched layer by layer in each pass, less what is
    hidden behind the computing of the pass. Passes are those over the answers (reward, reference, policy there and back: five times, alike) and one for each
    token drawn."""
    bandwidth = cluster.host_bandwidth if group <= cluster.ranks_per_host else cluster.bandwidth
    fetch = 4 * model.parameters * (group - 1) / group / bandwidth + 2 * model.layers * cluster.latency
    rng = random.Random(seed)
    total, batches = 0.0, 20
    for _ in range(batches):
        lengths = sorted(max(1, round(rng.choice(work.lengths))) for _ in range(work.micro_batch_prompts * work.samples_per_prompt))
        done = 0
        for i, length in enumerate(lengths):  # rows leave one after the other
            drawn = model.per_decoding_step + (len(lengths) - i) * model.per_sampled_token
            total += (length - done) * max(0.0, fetch - drawn)
            done = length
        total += 5 * max(0.0, fetch - sum(lengths) * model.per_trained_token / 5)
    return total / batches


# ---- what is measured ------------------------------------------------------------------------------------------------------------------------------------


def low(values):
    """What the work takes when nobody disturbs it: the middle of the lowest quarter."""
    values = sorted(values)
    return statistics.median(values[:max(1, len(values) // 4)])


def measure(program):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                   "OMPI_MCA_btl_vader_single_copy_mechanism": "none", "OMPI_MCA_mpi_yield_when_idle": "1"}

    def call(*words):
        done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, words))}\n{done.stderr}")
        return done.stdout

    with tempfile.TemporaryDirectory() as folder:
        answers = call(program, "generate", "--model", ROOT / "data" / "storyteller", "--prompts", ROOT / "data" / "openings.heldout.jsonl", "--samples", 8,
                       "--max-new-tokens", 160, "--json").splitlines()
        by_prompt = {}
        for answer in map(json.loads, answers):
            by_prompt.setdefault(answer["prompt_index"], []).append(len(answer["token_ids"]))
        lengths = [length for of_prompt in by_prompt.values() for length in of_prompt]
        # Between prompts, of the logarithm of their means, less what chance within a prompt makes of it.
        means = [statistics.mean(of_prompt) for of_prompt in by_prompt.values()]
        within = statistics.mean(statistics.variance(of_prompt) / len(of_prompt) for of_prompt in by_prompt.values())
        spread = math.sqrt(max(0.0, statistics.variance(means) - within)) / statistics.mean(means)

        trace, preferences = Path(folder) / "trace.json", Path(folder) / "preferences.jsonl"
        preferences.write_text("".join((ROOT / "data" / "preferences.jsonl").read_text().splitlines(keepends=True)[:256]))  # it need not be a good critic
        call(program, "run", ROOT / "configs" / "quickstart.yaml", "--set", f"output={folder}/run", "--set", "stages=[reward, calibrate, align]", "--set",
             "reward.epochs=1", "--set", f"reward.preferences={preferences}", "--set", "prompts.max_train=64", "--set", "calibration.rollouts_per_prompt=8", "--set", "alignment.steps=12", "--set",
             "alignment.prompts_per_step=16", "--set", "sampling.max_new_tokens=64", "--set", "alignment.warmup_steps=1", "--set", "checkpoint.every=1", "--trace", trace)
        events = json.loads(trace.read_text())["traceEvents"]
        align = [event for event in events if event["name"] == "stage align"][0]
        seconds = {}
        for event in events:
            if event["ph"] == "X" and align["ts"] <= event["ts"] < align["ts"] + align["dur"]:
                seconds.setdefault(event["name"], []).append(event["dur"] / 1e6)
        metrics = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
        tokens = statistics.mean(line["tokens"] for line in metrics if line["stage"] == "align") / 4  # micro-batches a step
        per = {name: low(values) for name, values in seconds.items()}
        parameters = 0
        inspected = json.loads(call(program, "inspect", ROOT / "data" / "storyteller", "--json"))
        parameters = inspected.get("parameters") or sum(math.prod(tensor["shape"]) for tensor in inspected["tensors"])

        doctor = [json.loads(call("mpirun", "--oversubscribe", "--bind-to", "none", "-n", 2, program, "doctor", "--json")) for _ in range(5)]
        return {"parameters": parameters, "lengths": sorted(lengths)[::max(1, len(lengths) // 256)], "length_spread_between_prompts": spread,
                "seconds_per_sampled_token": per["sample"] / tokens,
                "seconds_per_trained_token": (per["rewards"] + per["reference"] + per["gradient"]) / tokens,
                "optimizer_seconds_per_parameter": per["optimizer"] / parameters, "checkpoint_seconds": per["checkpoint"],
                "all_reduce_latency": min(found["all_reduce"]["latency_microseconds"] for found in doctor) / 1e6,
                "all_reduce_bytes_per_second": max(found["all_reduce"]["gigabytes_per_second"] for found in doctor) * 1e9,
                "write_bytes_per_second": max(rank["write_megabytes_per_second"] for found in doctor for rank in found["ranks"]) * 1e6}


# ---- the tables ------------------------------------------------------------------------------------------------------------------------------------------

RANKS = (8, 16, 32, 64, 128, 256, 512, 1024)


def scenarios(calibration):
    """What is measured here, on a cluster of such machines; and a model of 7 billion parameters on GPUs, which is assumed throughout."""
    lengths = tuple(calibration["lengths"])
    here = Model(calibration["parameters"], calibration["seconds_per_sampled_token"], 0.0, calibration["seconds_per_trained_token"],
                 calibration["optimizer_seconds_per_parameter"], 3)
    work = Work(lengths, calibration["length_spread_between_prompts"], 4, 16, 4)
    cpus = Cluster(latency=calibration["all_reduce_latency"], bandwidth=min(calibration["all_reduce_bytes_per_second"], 1.25e9), host_bandwidth=1e9, ranks_per_host=2,
                   disk_rank=calibration["write_bytes_per_second"], disk_all=2e9, per_file=0.002, host_mtbf=1000 * 86400.0, notice=60, restart=30)
    # 1e15 operations a second at 40 %, 2 per parameter and token; forward of reference and reward, forward and backward of the policy: 5 times as much as one
    # forward. Decoding reads the weights once a step at 3 TB/s.
    large_parameters = 7e9
    large = Model(large_parameters, 2 * large_parameters / 4e14, 2 * large_parameters / 3e12, 5 * 2 * large_parameters / 4e14, 20 / 3e12, 32)
    longer = tuple(length * 4 for length in lengths)
    gpus = Cluster(latency=5e-6, bandwidth=5e10, host_bandwidth=4e11, ranks_per_host=8, disk_rank=1e9, disk_all=2e10, per_file=0.002, host_mtbf=200 * 86400.0, notice=60, restart=180)
    return (("as measured here", here, work, cpus, 20, 3000), ("7 billion parameters", large, replace(work, lengths=longer), gpus, 20, 3000))


def table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def duration(seconds):
    for unit, name in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return "0"


def print_gathering(model, work, cluster):
    rows = []
    for group, name in ((cluster.ranks_per_host, "the ranks of a host"), (4 * cluster.ranks_per_host, "those of 4 hosts"), (256, "all of 256")):
        row = [f"{group}: {name}", f"{4 / group + 20 / 256:.2g}"]
        for batches, prompts in ((work.micro_batches_per_rank, work.micro_batch_prompts), (1, work.micro_batches_per_rank * work.micro_batch_prompts)):
            cut = replace(work, micro_batches_per_rank=batches, micro_batch_prompts=prompts)
            step, _ = step_seconds(model, cut, cluster, 256, False, steps=5)
            row.append(f"{(step + batches * gathering_seconds(model, cut, cluster, group)) / step:.2f}")
        rows.append(row)
    print(table(["stage 3 among", "bytes a parameter", f"a step of {work.micro_batches_per_rank} micro-batches, times stage 1", "the same prompts in one"], rows))


def print_tables(calibration):
    for title, model, work, cluster, every, steps in scenarios(calibration):
        alone, _ = step_seconds(model, work, cluster, 1, False)
        rows = []
        for ranks in RANKS:
            exact, _ = step_seconds(model, work, cluster, ranks, True)
            fast, busy = step_seconds(model, work, cluster, ranks, False)
            exchange = reduce_scatter(cluster, ranks, 4 * model.parameters) + all_gather(cluster, ranks, 4 * model.parameters)
            checkpoint = checkpoint_seconds(model, cluster, ranks)
            interval = best_interval(fast, checkpoint, cluster, ranks)
            whole = run_seconds(fast, checkpoint, interval, cluster, ranks, steps)
            rows.append([str(ranks), duration(fast), f"{alone / fast:.2f}", f"{alone / exact:.2f}", f"{1 - busy - exchange / fast:.2f}",
                         f"{exchange / fast:.2f}", duration(checkpoint), str(interval), f"{alone * steps / whole:.2f}"])
        print(f"\n### {title[0].upper() + title[1:]}\n")
        print(table(["ranks", "step", "efficiency", "reproducible", "idle", "exchange", "checkpoint", "best interval (steps)", "efficiency with checkpoints and failures"], rows))

        sketch = 8 * (1 << 16)
        prompts, samples, rollouts = 512, 32, 64
        rows = []
        for ranks in RANKS:
            rng = random.Random(7)
            one = statistics.mean(micro_batch_seconds(rng, replace(model, per_trained_token=model.per_trained_token / 4), work) for _ in range(50)) / work.samples_per_prompt
            calibration_work = rollouts * 64 * one  # 64 micro-batches of prompts for each rank
            batches = prompts // work.micro_batch_prompts
            evaluation = math.ceil(batches / ranks) * samples * one
            rows.append([str(ranks), duration(all_reduce(cluster, ranks, sketch)), f"{100 * all_reduce(cluster, ranks, sketch) / calibration_work:.3g} %", duration(evaluation),
                         f"{batches / ranks / math.ceil(batches / ranks):.2f}", duration(cluster.per_file * ranks),
                         duration(12 * model.parameters / min(cluster.disk_all, ranks * cluster.disk_rank))])
        print(table(["ranks", "sketch all-reduce", "of calibration", "evaluation of 512 prompts", "its efficiency", "checkpoint: index", "checkpoint: data"], rows))

        rows = []
        for spread in (work.spread, 0.25, 0.5, 1.0):
            row = [f"{spread:.2f}" + (" (measured)" if spread == work.spread else "")]
            for batches in (1, 4, 16):
                step, busy = step_seconds(model, replace(work, micro_batches_per_rank=batches, spread=spread), cluster, 256, False, steps=5)
                exchange = reduce_scatter(cluster, 256, 4 * model.parameters) + all_gather(cluster, 256, 4 * model.parameters)
                row.append(f"{1 - busy - exchange / step:.2f}")
            rows.append(row)
        print(table(["spread between prompts", "idle on 256 ranks: 1 micro-batch a step", "4", "16"], rows))
        print_gathering(model, work, cluster)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("measure").add_argument("--program", default=ROOT / "build" / "release" / "infalign")
    commands.add_parser("tables").add_argument("--calibration", default=Path(__file__).with_name("scaling.json"))
    options = parser.parse_args()
    if options.command == "measure":
        print(json.dumps(measure(Path(options.program).resolve()), indent=1))
    else:
        print_tables(json.loads(Path(options.calibration).read_text()))


if __name__ == "__main__":
    main()
