"""SIGTERM and SIGUSR1 lead to a complete checkpoint and exit code 75; started again, the run ends with the same bits. A full disk leaves the
checkpoint before it whole."""
from support import *

config, settings = small_config()
undisturbed = fresh("undisturbed")
run(command(config, undisturbed, settings), timeout=300)

output = fresh("stopped")
stops = 0
for number in range(60):
    process = subprocess.Popen(command(config, output, settings), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = output / "metrics.jsonl"
    before = metrics.stat().st_size if metrics.exists() else 0
    if stops < 3:
        # Once a step has been done, ask for a stop.
        while process.poll() is None and not (metrics.exists() and metrics.stat().st_size > before):
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM if stops % 2 else signal.SIGUSR1)
    out, err = process.communicate(timeout=120)
    if process.returncode == 0:
        break
    check(process.returncode == 75, f"exit code {process.returncode} instead of 75:\n{err}")
    check("start again" in err, f"the message does not say how to go on:\n{err}")
    stops += 1
check(process.returncode == 0 and stops >= 1, f"never finished, or never stopped ({stops})")
require_same(results(undisturbed), results(output), f"after {stops} polite stops")
print(f"{stops} polite stops: same bits")
