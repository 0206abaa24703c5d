"""launch/lint finds what is planted, says where, fails, and remembers what was clean only as long as nothing has changed.

    lint_test.py REPOSITORY SCRATCH
"""
import json
import shutil
import subprocess
import sys
from pathlib import Path

repository, scratch = Path(sys.argv[1]), Path(sys.argv[2])

GOOD = {
    "core/room/sum.h": "#pragma once\n\nnamespace room {\n\nint sum(int a, int b);\n\n}  // namespace room\n",
    "core/room/sum.cpp": '#include "core/room/sum.h"\n\nnamespace room {\nnamespace {\n\nint helper(int a) { return a; }\n\n'
                         "}  // namespace\n\nint sum(int a, int b) { return helper(a) + b; }\n\n}  // namespace room\n",
    "core/room/twice.cpp": '#include "core/room/sum.h"\n\nnamespace room {\nnamespace {\n\nint helper(int a) { return 2 * a; }\n\n'
                           "}  // namespace\n\nint twice(int a) { return helper(a); }\n\n}  // namespace room\n",
}


def plant(path, text):
    file = scratch / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def lint():
    done = subprocess.run([scratch / "launch" / "lint", "--build", scratch / "build"], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def expect(what, holds, said):
    if not holds:
        sys.exit(f"FAILED: {what}\n{said}")


shutil.rmtree(scratch, ignore_errors=True)
for path, text in GOOD.items():
    plant(path, text)
(scratch / "launch").mkdir()
shutil.copy(repository / "launch" / "lint", scratch / "launch" / "lint")
shutil.copy(repository / ".clang-tidy", scratch / ".clang-tidy")
plant("build/compile_commands.json", json.dumps([
    {"directory": str(scratch / "build"), "file": str(scratch / path), "command": f"c++ -I{scratch} -std=c++20 -o x.dir/x.o -c {path}"}
    for path in GOOD if path.endswith(".cpp")]))

status, said = lint()
if said.startswith("SKIPPED"):
    print(said)
    sys.exit(0)
expect("clean sources pass, though two have a helper of one name", status == 0 and "2 sources in 2 batches (0 remembered)" in said, said)
status, said = lint()
expect("clean sources are remembered", status == 0 and "(2 remembered)" in said, said)

plant("core/room/sum.h", GOOD["core/room/sum.h"].replace("int sum(", "int BadName();\nint sum("))
status, said = lint()
expect("a name against the rules, in a header", status == 1 and "core/room/sum.h:5:5: error" in said and "readability-identifier-naming" in said, said)
expect("told once, though two sources include it", said.count("'BadName'") == 1, said)

plant("core/room/sum.h", GOOD["core/room/sum.h"])
plant("core/room/twice.cpp", "#include <string>\n#include <utility>\n\n" + GOOD["core/room/twice.cpp"].replace(
    "return helper(a);", "std::string s(3, 'x'); const std::string t = std::move(s); return helper(a) + int(s.size() + t.size());"))
status, said = lint()
expect("a use after a move", status == 1 and "core/room/twice.cpp:" in said and "bugprone-use-after-move" in said, said)

plant("core/room/twice.cpp", "int twice(int a) { return b; }\n")
status, said = lint()
expect("a source that clang cannot read", status == 1 and "clang-diagnostic-error" in said, said)
print("launch/lint: all as expected")
