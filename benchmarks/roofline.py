#!/usr/bin/env python3
"""The roofline on paper: what the kernels and a step of alignment would take on GPUs that are not here.

    roofline.py            prints the tables of docs/gpu.md
    roofline.py --check    fails if docs/gpu.md holds other tables

Nothing here was measured. A kernel takes the longer of its bytes over the memory's speed and its operations over the
cores' (FACTORS says what share of each is counted on); a step is a sum of such times, as docs/gpu.md derives it.
"""
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "gpu.md"
MEMORY, CORES, NETWORK = FACTORS = 0.9, 0.65, 0.8

# name: (memory bytes/s, bfloat16 tensor FLOP/s, float32 FLOP/s, memory bytes, bytes/s to GPUs of the node, to others)
GPUS = {
    "A100": (2.04e12, 312e12, 19.5e12, 80e9, 300e9, 25e9),
    "H100": (3.35e12, 989e12, 67e12, 80e9, 450e9, 50e9),
    "B200": (8.0e12, 2250e12, 80e12, 180e9, 900e9, 50e9),
}
# name: layers, hidden, heads, key/value heads, head dimension, feed-forward, vocabulary
MODELS = {
    "1B": (16, 2048, 32, 8, 64, 8192, 128256),
    "8B": (32, 4096, 32, 8, 128, 14336, 128256),
    "70B": (80, 8192, 64, 8, 128, 28672, 128256),
}
PROMPTS, PROMPT, SAMPLES, RESPONSE = 8, 256, 8, 768  # of one GPU in one step


def parameters(model):
    L, C, H, K, D, F, V = MODELS[model]
    return L * (C * (H + 2 * K) * D + H * D * C + 3 * C * F + 2 * C) + 2 * V * C


def kernels():
    """(name, bytes, tensor FLOP, float32 FLOP) at T = 8192 tokens of the 8B model."""
    L, C, H, K, D, F, V = MODELS["8B"]
    T, row = 8192, (H + 2 * K) * D
    pairs = T * T // 2
    rows = [
        ("embedding forward", 8 * T * C, 0, 0),
        ("embedding backward", 12 * T * C, 0, 0),
        ("product for q, k, v in bfloat16", 2 * T * C + 2 * C * row + 2 * T * row, 2 * T * C * row, 0),
        ("product of gate and up in bfloat16", 2 * T * C + 4 * C * F + 4 * T * F, 4 * T * C * F, 0),
        ("head's rows with their gradient, 128", 16 * 128 * V, 0, 0),
        ("sampling, 512 rows", 8 * 512 * V, 0, 0),
        ("AdamW, 10^9 parameters", 28 * 10**9, 0, 0),
        ("fixed-point sum, 10^9 values", 24 * 10**9, 0, 0),
    ]
    for dtype, size in (("float32", 4), ("bfloat16", 2)):  # of activations between products, and of the cache
        def cores(operations):
            return (operations, 0) if dtype == "bfloat16" else (0, operations)
        rows += [
            (f"RMSNorm forward, with the residual, {dtype}", (12 + size) * T * C, 0, 0),
            (f"RMSNorm backward, {dtype}", (16 + 2 * size) * T * C, 0, 0),
            (f"rotary, {dtype}", 2 * size * T * (H + K) * D, 0, 0),
            (f"attention forward, one segment, {dtype}", size * T * (row + H * D), *cores(4 * pairs * H * D)),
            (f"attention backward, one segment, {dtype}", 2 * size * T * (row + H * D), *cores(14 * pairs * H * D)),
            (f"decode attention, 256 rows of 2048, {dtype}", 2 * size * 256 * 2048 * K * D, 0, 4 * 256 * 2048 * H * D),
            (f"SwiGLU forward, {dtype}", 3 * size * T * F, 0, 0),
            (f"SwiGLU backward, {dtype}", 5 * size * T * F, 0, 0),
        ]
    return rows


def seconds(gpu, count, tensor, plain):
    memory, tensor_peak, plain_peak, *_ = GPUS[gpu]
    return max(count / (MEMORY * memory), tensor / (CORES * tensor_peak), plain / (CORES * plain_peak))


def step(gpu, model, gpus):
    """(seconds to sample, to train, tokens a second of all GPUs, whether a GPU holds the weights)."""
    memory, tensor, _, room, near, far = GPUS[gpu]
    L, _, _, K, D, _, _ = MODELS[model]
    N, rows = parameters(model), PROMPTS * SAMPLES
    network = NETWORK * (near if gpus <= 8 else far)
    whole = 2 * 2 * N + 4 * N + 12 * N / gpus < 0.85 * room  # policy and reference, gradient, the optimizer's shard
    gathered = 0 if whole else 2 * N * (1 - 1 / gpus) / network  # the weights of one pass
    positions = PROMPTS * (PROMPT + SAMPLES * RESPONSE / 2)  # read at a step, on average
    cache = 2 * 2 * L * K * D * positions  # bfloat16
    decode = max((2 * N + cache) / (MEMORY * memory), 2 * N * rows / (CORES * tensor))
    sample = RESPONSE * max(decode, gathered)
    tokens = PROMPTS * (PROMPT + SAMPLES * RESPONSE)
    passes = 2 + 2 + 4  # reference forward, policy forward, backward: operations a parameter and token
    exchange = (4 * N + 2 * N) * (1 - 1 / gpus) / network + 2 * gathered  # gradients, parameters
    train = max(passes * N * tokens / (CORES * tensor), exchange)
    return sample, train, gpus * PROMPTS * SAMPLES * RESPONSE / (sample + train), whole


def tables():
    lines = ["| kernel | MB | GFLOP | " + " | ".join(f"{gpu} ms" for gpu in GPUS) + " |", "|---|--:|--:|" + "--:|" * len(GPUS)]
    for name, count, tensor, plain in kernels():
        times = " | ".join(f"{1e3 * seconds(gpu, count, tensor, plain):.2f}" for gpu in GPUS)
        lines.append(f"| {name} | {count / 1e6:.0f} | {(tensor + plain) / 1e9:.0f} | {times} |")
    lines += ["", "| GPU | model | GPUs | sampling s | training s | response tokens/s | weights |", "|---|---|--:|--:|--:|--:|---|"]
    for gpu in GPUS:
        for model in MODELS:
            for gpus in (8, 64, 1024):
                sample, train, rate, whole = step(gpu, model, gpus)
                lines.append(f"| {gpu} | {model} | {gpus} | {sample:.1f} | {train:.1f} | {rate:,.0f} | "
                             f"{'whole' if whole else 'gathered'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if "--check" in sys.argv:
        page = PAGE.read_text()
        sys.exit(0 if all(table in page for table in tables().split("\n\n")) else f"{PAGE}: other tables than {Path(__file__).name} prints")
    print(tables())
