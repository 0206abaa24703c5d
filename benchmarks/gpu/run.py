#!/usr/bin/env python3
"""One table of a GPU: our kernels beside the roofline on paper, and beside cuBLASLt and PyTorch in the same run.

    benchmarks/gpu/run.py --program build/cuda/benchmarks/gpu_benchmark
    benchmarks/gpu/run.py --program ... --check    fails if the program counts otherwise than benchmarks/roofline.py

What stands after the options is passed on to the program (--tokens 2048, say). "of copy" and "of peak" are shares of
what a copy and a large product of cuBLASLt reached, the table's first lines. "on paper" is roofline.py's, at the sizes
that it speaks of. A ratio is our time over the peer's.
"""
import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import roofline


def lines_of(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if not done.stdout:  # it has said why
        sys.exit(done.returncode)
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def on_paper(row, gpu):
    """Microseconds, if roofline.py counts the same."""
    for name, count, tensor, plain in roofline.kernels():
        work = (tensor, plain)[row["dtype"] == "float32"]
        if name == row["paper"] and (count, work, tensor + plain) == (row["bytes"], row["operations"], row["operations"]):
            return 1e6 * roofline.seconds(gpu, count, tensor, plain)
    return None


def check(program):
    rows, code = lines_of([program, "--list"])
    agreed = {row["paper"] for row in rows if on_paper(row, "H100") is not None}
    apart = [kernel[0] for kernel in roofline.kernels() if kernel[0] not in agreed]
    unknown = {row["paper"] for row in rows} - agreed - {"", *apart}
    sys.exit(code or (f"counted otherwise than in roofline.py: {', '.join([*apart, *sorted(unknown)])}" if apart or unknown else 0))


def microseconds(torch, call):
    """As gpu_benchmark measures: so many calls that a repeat takes 20 ms, and the median of nine."""
    def seconds(calls):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds(3)
    calls = 1
    while seconds(calls) < 0.02:
        calls *= 2
    return 1e6 * statistics.median(seconds(calls) / calls for _ in range(9))


def torch_times(torch, sizes):
    """(operation, dtype): microseconds of PyTorch's."""
    T, H, K, D = (sizes[name] for name in ("tokens", "heads", "kv_heads", "head_dim"))
    attend, times = torch.nn.functional.scaled_dot_product_attention, {}
    for dtype in ("float32", "bfloat16"):
        made = dict(device="cuda", dtype=getattr(torch, dtype), requires_grad=True)
        # In float32 its fused kernels take as many heads of keys as of queries.
        kv_heads, grouped = (K, {"enable_gqa": True}) if dtype == "bfloat16" else (H, {})
        q, k, v = (torch.randn(1, heads, T, D, **made) for heads in (H, kv_heads, kv_heads))

        def forward():
            return attend(q, k, v, is_causal=True, **grouped)

        with torch.no_grad():
            times["attention_forward", dtype] = microseconds(torch, forward)
        out = forward()
        d_out = torch.randn_like(out)
        times["attention_backward", dtype] = microseconds(
            torch, lambda: torch.autograd.grad(out, (q, k, v), d_out, retain_graph=True))
    parameter = torch.nn.Parameter(torch.randn(sizes["parameters"], device="cuda"))
    parameter.grad = torch.randn_like(parameter)
    times["adamw", "float32"] = microseconds(torch, torch.optim.AdamW([parameter], lr=1e-4, weight_decay=0.1, fused=True).step)
    return times


def peers_of_torch(sizes):
    """Its times, and what it is or why there are none."""
    try:
        import torch
    except ImportError as error:
        return {}, f"PyTorch is left out: {error}"
    if not torch.cuda.is_available():
        return {}, f"PyTorch {torch.__version__} is left out: it finds no GPU"
    try:
        return torch_times(torch, sizes), f"PyTorch {torch.__version__} on {torch.cuda.get_device_name()}"
    except (AttributeError, RuntimeError, TypeError) as error:  # out of memory, or an older version
        return {}, f"PyTorch {torch.__version__} is left out: {error}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--paper", choices=roofline.GPUS, default="H100", help="the GPU whose times on paper are shown")
    parser.add_argument("--check", action="store_true")
    options, passed_on = parser.parse_known_args()
    if options.check:
        check(options.program)
    (sizes, *rows), code = lines_of([options.program, "--json", *passed_on])
    times, about_torch = peers_of_torch(sizes)
    print(f"{about_torch}\n")
    print(f"| operation | shape | dtype | us | GB/s | of copy | TFLOP/s | of peak | on paper ({options.paper}) us | peer us | ratio |")
    print("|---|---|---|" + "--:|" * 8)
    for row, after in zip(rows, [*rows[1:], {"peer": ""}]):
        if row["peer"]:
            continue
        us, paper = row["microseconds"], on_paper(row, options.paper)
        peer, theirs = after["peer"], after.get("microseconds")
        if not peer and (theirs := times.get((row["operation"], row["dtype"]))):
            peer = "PyTorch"
        cells = [row["operation"], row["shape"], row["dtype"], f"{us:,.1f}", f"{1e-3 * row['bytes'] / us:,.0f}", f"{row['of_memory']:.0%}"]
        cells += [f"{1e-6 * row['operations'] / us:,.1f}", f"{row['of_products']:.0%}"] if row["operations"] else ["", ""]
        cells += [f"{paper:,.0f}" if paper else "", f"{peer} {theirs:,.1f}" if peer else "", f"{us / theirs:.2f}" if peer else ""]
        print("| " + " | ".join(cells) + " |")
    sys.exit(code)


if __name__ == "__main__":
    main()
