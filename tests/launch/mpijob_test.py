"""launch/mpijob.yaml keeps to the operator's schema, mounts only volumes it has, starts what the repository has, and asks for as many processors as slots;
a misspelt key is found.

    mpijob_test.py REPOSITORY
"""
import copy
import sys
from pathlib import Path

try:
    import jsonschema
    import yaml
except ImportError as error:
    print(f"SKIPPED: {error}")
    sys.exit()

root = Path(sys.argv[1])
job = yaml.safe_load((root / "launch" / "mpijob.yaml").read_text())
schema = yaml.safe_load((root / "tests" / "launch" / "mpijob.schema.yaml").read_text())
# Of YAML's words, "None" is a string, and so is what the schema says.
validator = jsonschema.Draft7Validator(schema)
problems = [f"{'.'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(job)]

replicas = job["spec"]["mpiReplicaSpecs"]
for name, replica in replicas.items():
    pod = replica["template"]["spec"]
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    for container in pod["containers"]:
        mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
        problems += [f"{name}: no volume {mount}" for mount in sorted(mounts - volumes)]
        problems += [f"{name}: volume {volume} is not mounted" for volume in sorted(volumes - mounts)]
worker = replicas["Worker"]["template"]["spec"]["containers"][0]
if worker["resources"]["limits"]["cpu"] != str(job["spec"]["slotsPerWorker"]):
    problems.append("a worker has not as many processors as slots")
program = replicas["Launcher"]["template"]["spec"]["containers"][0]["command"][0]
if not (root / Path(program).relative_to("/infalign")).is_file():
    problems.append(f"no {program} in the image")

misspelt = copy.deepcopy(job)
misspelt["spec"]["runPolicy"]["backOffLimit"] = 3
if validator.is_valid(misspelt):
    problems.append("a misspelt key is not found")
print("\n".join(problems) or "launch/mpijob.yaml is as the operator wants it")
sys.exit(bool(problems))
