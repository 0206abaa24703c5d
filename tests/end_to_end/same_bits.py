"""Calibration, samples (through evaluation.json), final weights: the same bits on 1, 2 and 4 ranks."""
from support import *

config, settings = small_config()
expected = None
for ranks in (None, 2, 4):
    output = fresh(f"ranks_{ranks or 1}")
    run(command(config, output, settings, ranks), timeout=300)
    if expected is None:
        expected = results(output)
    require_same(expected, results(output), f"{ranks} ranks against one")
    print(f"{ranks or 1} ranks: same bits")

# A traced run writes the timeline of every rank, and computes the same.
output = fresh("traced")
run(command(config, output, settings, 2) + ["--trace", str(output) + ".json"], timeout=300)
require_same(expected, results(output), "traced")
events = json.loads(Path(str(output) + ".json").read_text())["traceEvents"]
spans = [event for event in events if event["ph"] == "X"]
assert {event["pid"] for event in spans} == {0, 1}
assert {"stage align", "step", "sample", "rewards", "reference", "gradient", "optimizer"} <= {event["name"] for event in spans}
assert all(event["ts"] >= 0 and event["dur"] >= 0 for event in spans)
