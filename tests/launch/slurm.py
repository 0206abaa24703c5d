"""launch/slurm.sbatch under a real Slurm (slurmctld and slurmd of this machine's packages, with a folder, a key and ports of their own): a job is submitted,
runs over PMIx on two ranks, is asked to stop, writes a checkpoint, is queued again, goes on and finishes; the result is that of an undisturbed run, bit for bit.

Skipped where Slurm and MUNGE are not installed (Debian: slurm-wlm munge), or without root.
"""
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "end_to_end"))
from support import *  # noqa: E402, F403

EXPERIMENT = """name: slurm
seed: 1
output: OUTPUT
stages: [calibrate, align, evaluate]
synthetic: {prompts: 32, responses: 64}
inference: {procedure: best_of_n, n: 4}
calibration: {rollouts_per_prompt: 64}
alignment: {transform: optimal, target_kl: 0.5, steps: STEPS, prompts_per_step: 16, samples_per_prompt: 16}
distributed: {micro_batch_prompts: 4}
checkpoint: {every: 1000}
"""
CONFIGURATION = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=10 State=UP
"""


def skip(why):
    print(f"SKIPPED: {why}")
    sys.exit()


missing = [program for program in ("slurmctld", "slurmd", "munged", "sbatch", "srun") if not shutil.which(program)]
if missing:
    skip(f"no {', '.join(missing)} here (Debian: slurm-wlm munge)")
if os.geteuid() != 0:
    skip("slurmd needs root")


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for(what, true, seconds=60):
    limit = time.time() + seconds
    while not true():
        if time.time() > limit:
            logs = "".join(f"--- {path.name}\n{path.read_text()[-2000:]}" for path in sorted([*folder.glob("*.log"), *SCRATCH.glob("*.log")]))
            sys.exit(f"FAILED: no {what} after {seconds} s\n{logs}")
        time.sleep(0.1)


folder = fresh("slurm")
(folder / "state").mkdir()
(folder / "spool").mkdir()
(folder / "slurm.conf").write_text(CONFIGURATION.format(host=socket.gethostname(), folder=folder, ports=free_ports(2)))
key = folder / "munge.key"
key.write_bytes(os.urandom(128))
key.chmod(0o400)
ENVIRONMENT.update({"SLURM_CONF": str(folder / "slurm.conf"), "INFALIGN": str(PROGRAM), "OMPI_MCA_btl_vader_single_copy_mechanism": "none"})
daemons = []


def start(*words):
    log = open(folder / f"{words[0]}.out.log", "w")
    daemons.append(subprocess.Popen(words, stdout=log, stderr=log, env=ENVIRONMENT))


def slurm(*words):
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT, timeout=20)
    return done.stdout


def job(number):
    fields = dict(field.split("=", 1) for field in slurm("scontrol", "show", "job", number).split() if "=" in field)
    return fields.get("JobState", "?"), int(fields.get("Restarts", -1))


STEPS = 1500
number = None
undisturbed = fresh("undisturbed")
experiment = SCRATCH / "undisturbed.yaml"
experiment.write_text(EXPERIMENT.replace("OUTPUT", str(undisturbed)).replace("STEPS", str(STEPS)))
try:
    run([PROGRAM, "run", experiment], timeout=60)
    output = fresh("output")
    experiment = SCRATCH / "job.yaml"
    experiment.write_text(EXPERIMENT.replace("OUTPUT", str(output)).replace("STEPS", str(STEPS)))
    start("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={key}", f"--pid-file={folder}/munged.pid",
          f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed")
    wait_for("socket of munged", (folder / "munge.socket").exists)
    start("slurmctld", "-D", "-f", folder / "slurm.conf")
    start("slurmd", "-D", "-f", folder / "slurm.conf")
    wait_for("idle node", lambda: "idle" in slurm("sinfo", "--noheader", "--format=%t"))

    log = SCRATCH / "job.log"
    log.unlink(missing_ok=True)
    submitted = slurm("sbatch", "--parsable", "--nodes=1", "--ntasks-per-node=2", "--time=5", "--signal=USR1@60", f"--output={log}", f"--chdir={SCRATCH}",
                      ROOT / "launch" / "slurm.sbatch", experiment)
    number = submitted.strip().splitlines()[-1]
    check(number.isdigit(), f"not submitted: {submitted}")
    metrics = output / "metrics.jsonl"
    wait_for("step of the job", lambda: metrics.exists() and metrics.read_text().count("\n") > 20)
    slurm("scancel", "--signal=USR1", number)  # as Slurm does by itself before the end of the time
    wait_for("second attempt", lambda: job(number)[1] == 1)
    check("stopped with a checkpoint; queued again" in log.read_text(), f"not queued again:\n{log.read_text()}")
    check("start again to go on" in log.read_text(), f"not stopped politely:\n{log.read_text()}")
    # Two attempts of a step share a folder of PMIx; the first has to be gone, as it is after the two minutes that Slurm itself waits.
    wait_for("end of the first step", lambda: f"[{number}.0] done with job" in (folder / "slurmd.log").read_text())

    def ended():
        state = job(number)[0]
        if state == "PENDING":
            slurm("scontrol", "update", f"JobId={number}", "StartTime=now")
        return state in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")

    wait_for("end of the job", ended)
    said = log.read_text()
    check(job(number)[0] == "COMPLETED", f"{job(number)[0]}:\n{said}")
    check("on 2 ranks" in said and "resuming from" in said, f"not two ranks that went on:\n{said}")
    for name in ("calibration.h5", "evaluation.json"):
        check(digest(undisturbed / name) == digest(output / name), f"{name} differs from the undisturbed run's")
    print("submitted, signalled, queued again, finished: same bits")
finally:
    if number:  # or what is left of it is in the way of the next try
        slurm("scancel", number)
        limit = time.time() + 10
        while job(number)[0] in ("RUNNING", "COMPLETING") and time.time() < limit:
            time.sleep(0.1)
    for daemon in reversed(daemons):
        daemon.terminate()
    for daemon in daemons:
        try:
            daemon.wait(timeout=10)
        except subprocess.TimeoutExpired:
            daemon.kill()
