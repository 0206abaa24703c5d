"""benchmarks/scaling.py against what can be told without it: equal work and a perfect network scale perfectly, the slowest rank sets the pace, exchange costs what
its formula says, failures cost what they must.

    scaling_test.py REPOSITORY
"""
import math
import sys
from dataclasses import replace
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(sys.argv[1]) / "benchmarks"))
import scaling  # noqa: E402

failures = 0


def expect(what, wanted, found, tolerance=1e-9):
    global failures
    if abs(found - wanted) > tolerance * max(1, abs(wanted)):
        print(f"FAILED: {what}: {found} instead of {wanted}")
        failures += 1


model = scaling.Model(parameters=1e6, per_sampled_token=1e-3, per_decoding_step=0, per_trained_token=1e-3, optimizer_per_parameter=0)
work = scaling.Work(lengths=(10,), spread=0, micro_batch_prompts=2, samples_per_prompt=4, micro_batches_per_rank=3)
perfect = scaling.Cluster(latency=0, bandwidth=math.inf, host_bandwidth=math.inf, ranks_per_host=1, disk_rank=1e6, disk_all=3e6, per_file=0.5, host_mtbf=1e300, notice=60, restart=30)
step = 3 * 8 * 10 * 2e-3
for ranks in (1, 7, 64):
    seconds, busy = scaling.step_seconds(model, work, perfect, ranks, True)
    expect(f"equal work on {ranks} ranks: seconds", step, seconds)
    expect(f"equal work on {ranks} ranks: busy", 1, busy)

slow = replace(perfect, bandwidth=1e6, latency=1e-3)
seconds, _ = scaling.step_seconds(model, replace(work, lengths=(10,)), slow, 4, False)
records = 40 * 4 * 3 * 2 * 4
exchange = (2e-3 + 4e6 * 0.75 / 1e6) * 2 + 2 * (2e-3 + 8 * 0.75 / 1e6) + 2e-3 + records * 0.75 / 1e6
expect("exchange on 4 ranks", step + exchange, seconds)

seconds, busy = scaling.step_seconds(model, replace(work, lengths=(1, 19)), perfect, 64, True, steps=40)
if not (seconds > 1.15 * step and busy < 0.87):
    print(f"FAILED: answers of different length do not make ranks wait: {seconds}, {busy}")
    failures += 1
expect("of which the work is as much", step, seconds * busy, 0.03)

expect("a checkpoint of few ranks: their own speed", 12e6 / 2e6 + 1, scaling.checkpoint_seconds(model, perfect, 2))
expect("a checkpoint of many: the file system's", 12e6 / 3e6 + 32, scaling.checkpoint_seconds(model, perfect, 64))
expect("a run without failures", 100 * 2 + 10 * 5, scaling.run_seconds(2, 5, 10, perfect, 8, 100))
often = replace(perfect, host_mtbf=8 * 1000)
lost = scaling.run_seconds(2, 5, 10, often, 8, 20000) / (20000 * 2 + 2000 * 5) - 1
# Each 1000 s a failure, which costs 90 s and half of an interval of 25 s.
expect("a run with failures", (90 + 12.5) / (1000 - 12.5), lost, 0.02)
# 8 answers of 10 tokens: a token is drawn in 8 ms, each of five passes over the answers takes 16 ms; 3 of 4 MB are fetched, in 3 s at 1 MB/s, or in 12 ms.
expect("parameters gathered by a perfect network", 0, scaling.gathering_seconds(model, work, perfect, 4))
expect("parameters gathered by a slow one", 10 * (3.0 + 2e-3 - 8e-3) + 5 * (3.0 + 2e-3 - 16e-3), scaling.gathering_seconds(model, work, slow, 4))
expect("hidden behind passes over answers, not behind tokens", 10 * (12e-3 - 8e-3),
       scaling.gathering_seconds(model, work, replace(perfect, bandwidth=1, host_bandwidth=250e6, ranks_per_host=4), 4))
print("scaling: all as expected" if failures == 0 else f"{failures} failures")
sys.exit(failures > 0)
