// Rewards from a program. It reads a line of JSON for each response, {"id", "prompt", "response"}, from its
// standard input, and writes one for each to its standard output, {"id", "reward"}, in any order; other keys
// of its lines are not looked at. What it writes to standard error is shown with a prefix. It is started at
// the first prompt, ends when its input does, and has to give a response the same reward whatever it was
// asked before: then a run is the same on any number of ranks.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/stages/child_process.h"
#include "core/stages/reward_source.h"

namespace infalign::stages {

class RewardCommand final : public RewardSource {
 public:
  /// `name`, the configuration's key, begins every message. For the responses to one prompt the program has
  /// `timeout` seconds. If it ends or exceeds them, it is started again and asked all of them again, at most
  /// `restarts` times for each prompt.
  RewardCommand(std::string name, std::vector<std::string> command, double timeout, std::int64_t restarts);
  ~RewardCommand() override;

  /// Only the texts are used. Errors: InputError, at once, for a line that is not JSON, lacks an id or a
  /// finite number as reward, or has an id that was not asked for or was answered already; std::runtime_error
  /// for a program that cannot be started, or ends or exceeds its time once too often, with its exit status
  /// or signal, the prompt, and the last that it said on standard error.
  std::vector<float> score(const kernels::Stream& on, std::span<const std::int32_t> prompt_ids,
                           const std::string& prompt_text,
                           std::span<const std::vector<std::int32_t>> response_ids,
                           const std::vector<std::string>& response_texts) override;
  bool reads_text() const override { return true; }

  /// Of the words of the command, and the content of those that are files.
  std::string fingerprint() const override;

 private:
  class Batch;

  std::string attempt(Batch& batch);
  std::string attempt_until(Batch& batch, std::chrono::steady_clock::time_point deadline);
  bool take_lines(Batch& batch);
  bool show_errors();
  void show_error_line(const std::string& line);
  std::string end_child(std::chrono::milliseconds limit);
  std::string who() const;

  std::string name_;
  std::vector<std::string> command_;
  double timeout_;
  std::int64_t restarts_;
  std::uint64_t next_id_ = 0;
  std::unique_ptr<ChildProcess> child_;
  std::string unread_;      // of its output: the beginning of a line
  std::string unshown_;     // of its standard error, likewise
  std::string last_words_;  // the last line of it
};

}  // namespace infalign::stages
