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
