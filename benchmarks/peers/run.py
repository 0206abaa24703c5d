#!/usr/bin/env python3
"""One table: our sampling, training and reinforcement-learning step beside the fastest other software for the same work.

    benchmarks/peers/run.py --program build/benchmark/benchmarks/peer_work --scripts FOLDER --python PYTHON

FOLDER holds the peers' scripts (torch_generate.py, torch_train.py, trl_step.py, limits.py, llamacpp_batched with its
S-f32.gguf ...), each printing JSON lines of work, model, batch, dtype, value, unit, peak_rss_mib; PYTHON has torch,
transformers and trl. Ours and theirs run one after the other on the same idle machine; every figure is the median of the
program's own repeats, after warm-up. A peer that is missing or fails is named under the table and left out.
"""
import argparse
import json
import os
import subprocess
import sys

SIZES = {"S": (2048, 128, 4, 4, 4, 384), "M": (32000, 288, 6, 6, 6, 768), "L": (49152, 576, 30, 9, 3, 1536)}
ROWS = [("sample", "S", 64), ("sample", "S", 256), ("sample", "M", 64), ("sample", "L", 64), ("train", "S", 64),
        ("train", "M", 64), ("train", "L", 16), ("step", "S", 128), ("step", "M", 128), ("step", "L", 16)]
PROMPT, NEW = 32, 64


def operations(work, model, batch):
    """Of the matrix products that the work cannot do without: for each token, or for the whole step."""
    vocabulary, width, layers, heads, kv_heads, ffn = SIZES[model]
    blocks = layers * (2 * width**2 + 2 * width * width * kv_heads // heads + 3 * width * ffn)
    head = vocabulary * width
    sampled = 2 * (blocks * (PROMPT + NEW) + head * NEW) / NEW
    if work == "sample":
        return sampled
    if work == "train":
        return 6 * (blocks + head)
    read = 2 * (blocks * (PROMPT + NEW) + head * NEW) / NEW  # by the reference; three times that is a training pass
    return batch * NEW * (sampled + 4 * read)


def peers(options, work, model, batch):
    """(command, environment) of every peer for a row of the table."""
    script = lambda name, *more: [options.python, os.path.join(options.scripts, name), "--model", model, "--threads",
                                  str(options.threads), "--repeats", str(options.repeats), *more]
    for dtype in ("float32", "bfloat16"):
        if work == "sample":
            for engine in ("eager", "compiled"):
                yield script("torch_generate.py", "--batch", str(batch), "--engine", engine, "--dtype", dtype)
        elif work == "train":
            for engine in ("eager", "compiled"):
                yield script("torch_train.py", "--batch", str(batch), "--engine", engine, "--dtype", dtype)
        else:
            completions = 4 if model == "L" else 8
            yield script("trl_step.py", "--prompts", str(batch // completions), "--completions", str(completions),
                         "--dtype", dtype)
    if work == "sample":
        yield [os.path.join(options.scripts, "llamacpp_batched"), "--model", model, "--dtype", "f32", "--sampler", "lean",
               "--batch", str(batch), "--threads", str(options.threads), "--repeats", str(options.repeats)]


def figures(command, options, complaints):
    environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads), HF_HUB_OFFLINE="1",
                       MALLOC_MMAP_THRESHOLD_="17179869184", MALLOC_TRIM_THRESHOLD_="17179869184")
    try:
        done = subprocess.run(command, cwd=options.scripts, env=environment, capture_output=True, text=True,
                              timeout=options.timeout)
    except (OSError, subprocess.TimeoutExpired) as error:
        complaints.append(f"{os.path.basename(command[0])} {' '.join(command[1:])}: {error}")
        return []
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        complaints.append(f"{' '.join(map(os.path.basename, command))}: {last[0]}")
    for line in lines:
        print(json.dumps(line), file=sys.stderr, flush=True)
    return lines


def ours(options, work, model, batch, dtype, complaints):
    program = os.path.abspath(options.program)
    done = subprocess.run([program, work, str(batch), model, dtype, str(options.threads), str(options.repeats)],
                          capture_output=True, text=True)
    if done.returncode != 0:
        complaints.append(done.stderr.strip())
        return None
    print(done.stdout.strip(), file=sys.stderr, flush=True)
    return json.loads(done.stdout)


def limits(options, complaints):
    """GFLOP/s of the largest square product, by dtype."""
    best = {}
    for line in figures([options.python, os.path.join(options.scripts, "limits.py"), "--threads",
                         str(options.threads), "--repeats", "5"], options, complaints):
        if line["work"] == "gemm":
            best[line["dtype"]] = max(best.get(line["dtype"], 0), line["value"])
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--scripts", required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one peer")
    parser.add_argument("--rows", nargs="*", help="such as sample-S-64; all if absent")
    options = parser.parse_args()
    options.scripts, complaints = os.path.abspath(options.scripts), []
    limit = limits(options, complaints)
    print(f"Limit: {', '.join(f'{rate:.0f} GFLOP/s {dtype}' for dtype, rate in limit.items())}, {options.threads} threads\n")
    print("| work | ours float32 (of the limit, MiB) | ours bfloat16 | best peer float32 | best peer bfloat16 | ratio, float32 "
          "| ratio, any dtype |")
    print("|---|---|---|---|---|---|---|")
    for work, model, batch in ROWS:
        if options.rows is not None and f"{work}-{model}-{batch}" not in options.rows:
            continue
        mine = {dtype: ours(options, work, model, batch, dtype, complaints) for dtype in ("float32", "bfloat16")}
        theirs = [line for command in peers(options, work, model, batch) for line in figures(command, options, complaints)]
        again = {dtype: ours(options, work, model, batch, dtype, complaints) for dtype in ("float32", "bfloat16")}
        rate = lambda line: 1 / line["value"] if line["unit"] == "s" else line["value"]
        for dtype in mine:  # before and after the peers: the slower of the two counts
            if mine[dtype] and again[dtype] and rate(again[dtype]) < rate(mine[dtype]):
                mine[dtype] = again[dtype]
        dtype_of = lambda line: {"f32": "float32"}.get(line["dtype"], line["dtype"])

        def best(dtype):
            of_dtype = [line for line in theirs if dtype_of(line) == dtype]
            return max(of_dtype, key=rate, default=None)

        def shown(line, share=False):
            if line is None:
                return "-"
            text = f"{line['value']:.3g} {line['unit']}" if line["unit"] == "s" else f"{line['value']:,.0f} tokens/s"
            details = [] if line["peer"] == "infalign" else [line["peer"]]
            if line["dtype"] in ("float32", "bfloat16") and line["dtype"] in limit and share:
                details.append(f"{rate(line) * operations(work, model, batch) / limit[line['dtype']] / 1e9:.0%}")
            return f"{text} ({', '.join(details + [str(line['peak_rss_mib'])])})"

        def ratio(a, b):
            return f"{rate(a) / rate(b):.1f}" if a and b else "-"

        peers_best = {dtype: best(dtype) for dtype in mine}
        any_peer = max([line for line in peers_best.values() if line], key=rate, default=None)
        any_ours = max([line for line in mine.values() if line], key=rate, default=None)
        print(f"| {work} {model}, {batch} | {shown(mine['float32'], True)} | {shown(mine['bfloat16'], True)} "
              f"| {shown(peers_best['float32'])} | {shown(peers_best['bfloat16'])} "
              f"| {ratio(mine['float32'], peers_best['float32'])} | {ratio(any_ours, any_peer)} |", flush=True)
    for complaint in complaints:
        print("\nleft out: " + complaint)


if __name__ == "__main__":
    main()
