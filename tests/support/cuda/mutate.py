#!/usr/bin/env python3
"""Removes each barrier, each wait and each synchronisation of kernels/, and those by which gradients are exchanged, in
turn, and shows that some test fails.

    mutate.py --build FOLDER [--list] [NUMBER...]     NUMBER: only these of the list

FOLDER is a build with test_cuda_on_host and nccl_collectives up to date. A mutant is one source with one statement taken out; what is
compiled again is that source, or, of a header, the sources that call the function which the statement stands in. The
new objects are linked in front of the old ones, and the tests of the operations concerned are run. A mutant that no
test notices is printed, and the exit code is 1: its statement is to be deleted, or a test to be written.
"""
import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = "tests/support/cuda/test_cuda_on_host"
# Of distributed/, sources and a program of two ranks.
RANKS_PROGRAM = "tests/support/cuda/nccl_collectives"
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2"]
OF_RANKS = ["distributed/exchange.cpp", "distributed/gradient_sum.cpp"]
STATEMENTS = re.compile(
    r"__syncthreads\(\);|__syncwarp\(\);"
    r"|check\(cuda(?:StreamSynchronize|EventRecord|StreamWaitEvent|EventSynchronize)\([^;]*;"
    r"|on\.synchronise\(\);"
    r"|(?:computed_|done_|slots_\[part\.slot\]\.summed)\.record\([^;]*;|(?:stream_|computing_|on_)\.wait\([^;]*;|collectives_->wait\([^;]*;"
    r"|(?:on_cuda\(\)|operations)\.(?:synchronise|record_event|wait_for_event|synchronise_event)\([^;]*;")
# Which tests concern what stands in a folder.
TESTS = {
    "kernels/attention/": "*attention_forward*:*attention_backward*",
    "kernels/decode_attention/": "*decode_attention*",
    "kernels/cuda/reduce.h": "*norm*:*log_probability*:*sample_tokens*:*add_fixed_point*",
    "kernels/cuda/runtime.cu": "Queues*",
    "kernels/device": "Queues*",
}


def code_of(text):
    """The text with comments blanked, of the same length."""
    return re.sub(r"//[^\n]*", lambda found: " " * len(found[0]), text)


def sites():
    """(path, begin, end) of every statement, in a fixed order."""
    found = []
    for path in [*sorted(ROOT.glob("kernels/**/*")), *(ROOT / source for source in OF_RANKS)]:
        name = path.relative_to(ROOT).as_posix()
        if path.suffix not in (".cu", ".h", ".cpp") or name == "kernels/cuda/language.h":
            continue
        for at in STATEMENTS.finditer(code_of(path.read_text())):
            found.append((name, at.start(), at.end()))
    return found


def enclosing_function(text, at):
    """The name of the function that `at` stands in."""
    return re.findall(r"^[a-z_A-Z][^\n;=]*?(\w+)\(", code_of(text)[:at], flags=re.MULTILINE)[-1]


class Build:
    def __init__(self, folder):
        self.folder = folder
        entries = json.loads((folder / "compile_commands.json").read_text())
        self.commands = {}
        for entry in entries:
            name = Path(entry["file"]).resolve().relative_to(ROOT).as_posix() if entry["file"].startswith(str(ROOT)) else ""
            if "infalign_cuda_on_host" in entry["command"] or "test_cuda_on_host" in entry["command"] or name == "kernels/device.cpp":
                self.commands[name] = shlex.split(entry["command"])
            if "infalign_distributed.dir" in entry["command"]:  # its sources may be compiled together
                for source in OF_RANKS:
                    self.commands[source] = shlex.split(entry["command"])

    def sources_of(self, name, text, at):
        if name in self.commands:
            return [name]
        function = enclosing_function(text, at)
        return [source for source in self.commands if source not in ("kernels/device.cpp", *OF_RANKS)
                and re.search(rf"\b{function}\(", (ROOT / source).read_text())]

    def compile(self, source, overlay, to):
        """The object of `source`, itself or its headers taken from `overlay` where it has them."""
        command = list(self.commands[source])
        launcher = [i for i, word in enumerate(command) if word.endswith("/ccache")]
        command = command[launcher[0] + 1:] if launcher else command
        command[command.index("-o") + 1] = str(to)
        command[command.index("-c") + 1] = str(overlay / source if (overlay / source).exists() else ROOT / source)
        command.insert(1, f"-I{overlay}")
        subprocess.run(command + ["-w"], cwd=self.folder, check=True)

    def link_and_run(self, objects, folder, tests):
        program = folder / "mutant"
        of = PROGRAM if tests else RANKS_PROGRAM
        steps = subprocess.run(["ninja", "-C", str(self.folder), "-t", "commands", "-s", of], capture_output=True, text=True,
                               check=True).stdout
        words = shlex.split(next(line for line in steps.splitlines() if f"-o {of}" in line))
        words = words[words.index("&&") + 1:] if "&&" in words else words  # CMake puts an empty step before and after
        words = words[:words.index("&&")] if "&&" in words else words
        words[words.index("-o") + 1] = str(program)
        subprocess.run([words[0], "-Wl,-z,muldefs", *map(str, objects), *words[1:]], cwd=self.folder, check=True)
        try:
            command = [str(program), f"--gtest_filter={tests}", "--gtest_fail_fast", "--gtest_brief=1"] if tests \
                else [*MPIRUN, str(program)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            return "it never ends"
        if done.returncode == 0:
            return None
        failed = re.findall(r"\[  FAILED  \] ([\w/.]+)", done.stdout)
        return failed[0] if failed else f"exit code {done.returncode}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "release")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("numbers", nargs="*", type=int)
    options = parser.parse_args()
    all_sites = sites()
    chosen = options.numbers or range(len(all_sites))
    build = None if options.list else Build(options.build.resolve())
    noticed = 0
    for number in chosen:
        name, begin, end = all_sites[number]
        text = (ROOT / name).read_text()
        where = f"{number}: {name}:{text.count(chr(10), 0, begin) + 1}: {' '.join(text[begin:end].split())}"
        if options.list:
            print(where)
            continue
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            mutant = folder / "overlay" / name
            mutant.parent.mkdir(parents=True)
            mutant.write_text(text[:begin] + "{}" + text[end:])
            objects = []
            for source in build.sources_of(name, text, begin):
                objects.append(folder / (source.replace("/", "_") + ".o"))
                build.compile(source, folder / "overlay", objects[-1])
            tests = next((tests for prefix, tests in TESTS.items() if name.startswith(prefix)), None)
            verdict = build.link_and_run(objects, folder, tests)
        noticed += verdict is not None
        print(f"{where}  {'noticed by ' + verdict if verdict else 'NOT NOTICED'}", flush=True)
    if not options.list:
        print(f"{noticed} of {len(chosen)} removals are noticed")
        sys.exit(int(noticed != len(chosen)))


if __name__ == "__main__":
    main()
