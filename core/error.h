// The exceptions that decide how the program ends. Everything below `launch` throws; the one handler in
// `launch/main.cpp` prints a line and turns the type into the exit code documented in README.md.
// Any other exception means that the run failed (exit code 1).
#pragma once

#include <stdexcept>
#include <string>

namespace infalign {

/// The configuration or the command line is wrong; nothing was started. Exit code 2.
class ConfigurationError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A model, data, calibration or checkpoint file is wrong; the message names the file. Exit code 3.
class InputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The run stopped on request after a complete checkpoint; starting it again goes on. Exit code 75.
class Stopped : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace infalign
