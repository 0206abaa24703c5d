"""A link is taken down between two hosts (network namespaces with names of their own). mpirun notices nothing; the watchdog names the lost ranks and ends
all, launch/mpirun goes on with the host that is left, and the result is that of an undisturbed run, bit for bit.

Skipped where network namespaces may not be made.
"""
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "end_to_end"))
from support import *  # noqa: E402, F403

HOSTS = {"10.77.9.1": "ifa1", "10.77.9.2": "ifa2"}
BRIDGE = "ifabr"
EXPERIMENT = """name: link
seed: 1
output: OUTPUT
stages: [calibrate, align, evaluate]
synthetic: {prompts: 32, responses: 64}
inference: {procedure: best_of_n, n: 4}
calibration: {rollouts_per_prompt: 64}
alignment: {transform: optimal, target_kl: 0.5, steps: 300, prompts_per_step: 16, samples_per_prompt: 16}
distributed: {micro_batch_prompts: 4, watchdog_seconds: 10}
checkpoint: {every: 10}
"""


def ip(*words, expect=True):
    done = subprocess.run(["ip", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if expect and done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def remove_hosts():
    for name in HOSTS.values():
        for pid in ip("netns", "pids", name, expect=False).split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
        ip("link", "del", f"{name}v", expect=False)
        ip("netns", "del", name, expect=False)
    ip("link", "del", BRIDGE, expect=False)


def make_hosts():
    remove_hosts()
    ip("link", "add", BRIDGE, "type", "bridge")
    ip("link", "set", BRIDGE, "up")
    for address, name in HOSTS.items():
        ip("netns", "add", name)
        ip("link", "add", f"{name}v", "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", f"{name}v", "master", BRIDGE, "up")
        ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")
    done = subprocess.run(["ip", "netns", "exec", "ifa1", "unshare", "--uts", "true"], stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())


def script(name, body):
    path = SCRATCH / name
    path.write_text("#!/bin/bash\n" + body)
    path.chmod(0o755)
    return path


def experiment(name):
    output = fresh(name)
    path = SCRATCH / f"{name}.yaml"
    path.write_text(EXPERIMENT.replace("OUTPUT", str(output)))
    return path, output


SCRATCH.mkdir(parents=True, exist_ok=True)
try:
    make_hosts()
except (OSError, RuntimeError) as error:
    print(f"SKIPPED: no network namespaces here ({error})")
    sys.exit()
try:
    path, undisturbed = experiment("undisturbed")
    run([PROGRAM, "run", path], timeout=60)
    # In the place of ssh: runs a command in the namespace of a host; and one that asks over the network whether a host is there.
    enter = "case $1 in " + " ".join(f"{address}) name={name} ;;" for address, name in HOSTS.items()) + " esac\nshift\n" \
            "exec ip netns exec $name unshare --uts bash -c 'hostname \"$0\"; eval \"$*\"' $name \"$@\"\n"
    agent = script("agent", enter)
    ask = script("ask", "answer=$({ timeout 3 bash -c \"exec 3<>/dev/tcp/$1/7\"; } 2>&1) && exit 0\n[[ $answer == *refused* ]]\n")  # a host that is there refuses
    hosts = SCRATCH / "hosts"
    hosts.write_text("".join(f"{address} slots=2\n" for address in HOSTS))
    path, output = experiment("cut")
    environment = {**ENVIRONMENT, "INFALIGN": str(PROGRAM), "MPIRUN": MPIRUN, "INFALIGN_REMOTE": str(ask), "INFALIGN_BACKOFF": "1",
                   "MPIRUN_OPTIONS": f"--mca plm_rsh_agent {agent} --mca btl_tcp_if_include 10.77.9.0/24 --mca oob_tcp_if_include 10.77.9.0/24 "
                                     "--mca btl_vader_single_copy_mechanism none --mca mpi_yield_when_idle 1 --bind-to none"}
    launcher = subprocess.Popen([agent, "10.77.9.1", ROOT / "launch" / "mpirun", "--hostfile", hosts, "--restarts", "1", "run", path],
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    metrics = output / "metrics.jsonl"
    start = time.time()
    while launcher.poll() is None and (not metrics.exists() or metrics.read_text().count("\n") < 15):
        check(time.time() < start + 30, "no step was done")
        time.sleep(0.02)
    check(launcher.poll() is None, "the run was over before the link was cut")
    ip("-n", "ifa2", "link", "set", "eth0", "down")
    cut = time.time()
    try:
        _, said = launcher.communicate(timeout=45)
    except subprocess.TimeoutExpired:
        remove_hosts()
        sys.exit(f"FAILED: it hangs:\n{launcher.communicate()[1]}")
    print(said, f"{time.time() - cut:.1f} s after the cut", sep="")
    check(launcher.returncode == 0, f"exit code {launcher.returncode}")
    lines = [line for line in said.splitlines() if line.startswith("infalign: ")]
    check(len(lines) == 1, f"{len(lines)} messages instead of one")
    check("rank 2 on ifa2 has given no sign of life" in lines[0] and "the same holds of rank 3" in lines[0], "the lost ranks are not named")
    # One of them may have left a collective that the other still waits in.
    check("ranks 0 and 1 wait in " in lines[0] or "rank 0 waits in " in lines[0] and "rank 1 waits in " in lines[0],
          "what the others waited in is not named")
    check("goes on without 10.77.9.2" in said, "the lost host is not named")
    check("on 4 ranks" in said and "on 2 ranks" in said, "not 4 ranks, then 2")
    for name in ("calibration.h5", "evaluation.json"):
        check(digest(undisturbed / name) == digest(output / name), f"{name} differs from the undisturbed run's")
    print("a link was cut: named, gone on without the host, same bits")
finally:
    remove_hosts()
