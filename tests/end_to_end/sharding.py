"""Every stage of sharding gives the bits of one rank; so does one run's life on 1, 4, 2 and 3 ranks in stages 0, 2, 1, 2 and 1. The timeline
shows buckets reduced while the rank computes."""
from support import *

config, settings = small_config()
expected = fresh("alone")
run(command(config, expected, settings), timeout=300)


def with_sharding(stage, **more):
    return {**settings, "distributed.sharding": stage, **{key.replace("__", "."): value for key, value in more.items()}}


def spans(file):
    return [event for event in json.loads(Path(file).read_text())["traceEvents"] if event["ph"] == "X"]


for stage, ranks in ((0, 2), (2, 3)):
    output = fresh(f"stage_{stage}")
    run(command(config, output, with_sharding(stage), ranks) + ["--trace", f"{output}.json"], timeout=300)
    require_same(results(expected), results(output), f"stage {stage} on {ranks} ranks")
    names = {event["name"] for event in spans(f"{output}.json")}
    check("add gradients" in names and "ranks: reduce_scatter" in names, f"stage {stage}: no bucket in the timeline: {names}")
    steps = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    check(all(0 <= step["exposed_communication"] <= 1 for step in steps), "exposed_communication is a share")
    print(f"stage {stage} on {ranks} ranks: same bits")

# Reduced while the backward pass goes on: buckets of a rank lie within its gradient's time, on another thread.
events = spans(f"{SCRATCH / 'stage_2'}.json")
gradients = [event for event in events if event["name"] == "gradient"]
inside = [bucket for bucket in events if bucket["name"] == "add gradients"
          for gradient in gradients
          if bucket["pid"] == gradient["pid"] and bucket["tid"] != gradient["tid"]
          and gradient["ts"] < bucket["ts"] < gradient["ts"] + gradient["dur"]]
check(inside, "no bucket was on its way during a backward pass")

# One run's life: stopped after a step, it goes on elsewhere.
output = fresh("life")
stops = 0
for number, (ranks, stage) in enumerate([(None, 0), (4, 2), (2, 1), (3, 2), (3, 1)] + [(2, 1)] * 20):
    arguments = command(config, output, with_sharding(stage), ranks)
    process = subprocess.Popen(arguments, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = output / "metrics.jsonl"
    before = metrics.stat().st_size if metrics.exists() else 0
    if number < 5:
        while process.poll() is None and not (metrics.exists() and metrics.stat().st_size > before):
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGUSR1)
    out, err = process.communicate(timeout=120)
    if process.returncode == 0:
        break
    check(process.returncode == 75, f"exit code {process.returncode} instead of 75:\n{err}")
    stops += 1
check(process.returncode == 0 and stops >= 4, f"never finished, or stopped {stops} times only")
require_same(results(expected), results(output), "after a life in several stages")
print(f"{stops} stops: same bits")
