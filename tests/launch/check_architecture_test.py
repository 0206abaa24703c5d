"""The check of the architecture finds each kind of breach, and leaves alone what is allowed."""
import unittest

from check_architecture import breaches_of, circles


def breaches(path, *lines):
    return list(breaches_of(path, "\n".join(lines), lambda header: not header.startswith("no/")))


class CheckArchitecture(unittest.TestCase):
    def test_allowed_includes_pass(self):
        self.assertEqual(breaches("core/stages/align.cpp", '#include "core/alignment/theory.h"', "#include <spdlog/spdlog.h>",
                                  '#include "distributed/communicator.h"', '#include "core/error.h"', "#include <vector>",
                                  '#include "kernels/device.h"'), [])
        self.assertEqual(breaches("distributed/mpi.cpp", "#include <mpi.h>", '#include "kernels/device.h"'), [])

    def test_nothing_points_upward(self):
        for path, header in [("kernels/a.cpp", "core/model/x.h"), ("kernels/a.cpp", "distributed/x.h"),
                             ("distributed/a.cpp", "core/model/x.h"), ("core/model/a.cpp", "core/stages/x.h"),
                             ("core/stages/a.cpp", "kernels/matmul/matmul.h"), ("core/text/a.cpp", "kernels/device.h"),
                              ("core/text/a.cpp", "core/model/x.h"),
                             ("core/alignment/a.cpp", "core/error.h")]:
            self.assertEqual(len(breaches(path, f'#include "{header}"')), 1, (path, header))

    def test_libraries_stay_in_their_room(self):
        for path, header in [("distributed/a.h", "mpi.h"), ("core/stages/a.cpp", "mpi.h"), ("core/stages/a.cpp", "hdf5.h"),
                             ("core/text/a.cpp", "yaml-cpp/yaml.h"), ("core/stages/a.cpp", "CLI/CLI.hpp"),
                             ("core/model/a.cpp", "dnnl.hpp"), ("core/experiment/a.cpp", "nlohmann/json.hpp")]:
            found = breaches(path, "#pragma once", f"#include <{header}>")
            self.assertEqual(len(found), 1, (path, header))
            self.assertIn(":2:", found[0])

    def test_alignment_stands_on_the_standard_library(self):
        self.assertEqual(breaches("core/alignment/a.cpp", "#include <cmath>", "#include <string_view>"), [])
        self.assertTrue(breaches("core/alignment/a.cpp", "#include <boost/math/special_functions.hpp>"))
        self.assertTrue(breaches("core/alignment/a.cpp", "#include <unistd.h>"))

    def test_headers_guard_themselves_and_are_named_from_the_root(self):
        self.assertTrue(breaches("kernels/a.h", "int x;"))
        self.assertTrue(breaches("kernels/a.cpp", '#include "no/such.h"'))

    def test_circles(self):
        self.assertEqual(circles({"a": ["b", "c"], "b": ["c"], "c": []}), [])
        self.assertEqual(circles({"a": ["b"], "b": ["a"]}), [["a", "b", "a"]])


if __name__ == "__main__":
    unittest.main()
