"""Holds the sources to the house's rules of who may include whom; prints each breach and fails if there is one.

    check_architecture.py REPOSITORY
"""
import re
import sys
from pathlib import Path

# A room, and the rooms it may include besides itself. Nothing points upward.
ROOMS = {
    "kernels": set(),
    "distributed": {"kernels"},
    "core/alignment": set(),
    "core/experiment": {"core/alignment"},
    "core/json": set(),
    "core/model": {"kernels", "core/json"},
    "core/text": {"core/json"},
    "core/storage": {"core/json"},
    "core/stages": {"core/experiment", "core/alignment", "core/json", "core/model", "core/text", "core/storage",
                    "distributed"},
    "launch": {"core/stages", "core/experiment", "core/alignment", "core/json", "core/model", "core/text",
               "core/storage", "distributed"},
}
# What every room above kernels may name: the device it runs on, the precision of products, the timeline, and the random numbers that are the same on
# any number of ranks.
VOCABULARY = {"kernels/device.h", "kernels/precision.h", "kernels/random/philox.h", "kernels/trace.h"}
MAY_INCLUDE_VOCABULARY = {"distributed", "core/model", "core/stages", "launch"}
# core/error.h, the exceptions that become exit codes, is for all of core and launch; core/alignment stands on the standard library alone.
ERRORS_HEADER = "core/error.h"
MAY_INCLUDE_ERRORS = {"core/experiment", "core/model", "core/text", "core/storage", "core/stages", "launch"}
GENERATED = {"infalign_revision.h"}  # in the build folder

# Libraries, and the only places that know them; a place is a room, or a pattern of paths.
LIBRARIES = [
    (r"mpi\.h$", r"distributed/.*\.cpp$"),
    (r"nccl\.h$", r"distributed/.*\.cpp$"),
    (r"(H5\w*|hdf5\w*)\.h$", r"core/storage/"),
    (r"yaml-cpp/", r"core/experiment/"),
    (r"CLI/", r"launch/"),
    (r"(oneapi/|dnnl)", r"kernels/"),
    (r"(cuda|cublas)\w*\.h$", r"kernels/"),
    (r"omp\.h$", r"(kernels|distributed|launch)/"),  # the latter two set the number of threads
    (r"(pcre2|utf8proc)\.h$", r"core/text/"),
    (r"zlib\.h$", r"core/text/"),
    (r"(spdlog|fmt)/", r"(core/stages|launch)/"),
    (r"nlohmann/", r"core/json/"),
]

# What core/alignment may include in angle brackets: the headers of the C++ standard library have neither a folder nor an ending.
STANDARD_HEADER = re.compile(r"[a-z_0-9]+$")

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.MULTILINE)


def room_of(path):
    """The room a path lies in, or None."""
    return next((room for room in ROOMS if path.startswith(room + "/")), None)


def includes(text):
    """(line number, is quoted, header) of every include."""
    return [(text.count("\n", 0, found.start(2)) + 1, found[1] == '"', found[2]) for found in INCLUDE.finditer(text)]


def breaches_of(path, text, exists):
    """The rules that one file breaks. `exists` tells whether a path of the repository is a file."""
    room = room_of(path)
    if path.endswith(".h") and "#pragma once" not in text:
        yield f"{path}: a header without #pragma once"
    for line, quoted, header in includes(text):
        where = f"{path}:{line}: {header}"
        if quoted:
            if header in GENERATED:
                continue
            if not exists(header):
                yield f"{where}: quoted includes are paths from the repository's root"
            elif header == ERRORS_HEADER:
                if room not in MAY_INCLUDE_ERRORS:
                    yield f"{where}: not for {room}"
            elif header in VOCABULARY and room in MAY_INCLUDE_VOCABULARY:
                continue
            elif room_of(header) != room and room_of(header) not in ROOMS[room]:
                yield f"{where}: {room} may not include {room_of(header)}"
        elif room == "core/alignment" and not STANDARD_HEADER.match(header):
            yield f"{where}: core/alignment includes only the standard library"
        for library, place in LIBRARIES:
            if re.match(library, header) and not re.match(place, path):
                yield f"{where}: belongs only in {place}"


def circles(graph):
    """Chains of headers that include each other in a circle, each reported once."""
    done, found = set(), []

    def visit(node, chain):
        if node in chain:
            found.append(chain[chain.index(node):] + [node])
        elif node not in done:
            for following in graph.get(node, []):
                visit(following, chain + [node])
            done.add(node)

    for node in sorted(graph):
        visit(node, [])
    return found


def check(root):
    """All breaches in the repository at `root`."""
    sources = sorted(path.relative_to(root).as_posix() for top in ("core", "distributed", "kernels", "launch")
                     for path in (root / top).rglob("*") if path.suffix in (".h", ".cpp", ".cu"))
    texts = {path: (root / path).read_text(encoding="utf-8") for path in sources}
    breaches = []
    for path, text in texts.items():
        if path != ERRORS_HEADER:
            breaches += breaches_of(path, text, texts.__contains__)
    graph = {path: [header for _, quoted, header in includes(text) if quoted] for path, text in texts.items()}
    breaches += ["includes in a circle: " + " -> ".join(chain) for chain in circles(graph)]
    return breaches, len(texts)


def main():
    breaches, files = check(Path(sys.argv[1]))
    print("\n".join(breaches) or f"{files} files keep the rules")
    sys.exit(bool(breaches) or files == 0)


if __name__ == "__main__":
    main()
