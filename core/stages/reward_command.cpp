#include "core/stages/reward_command.h"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <iostream>
#include <limits>
#include <optional>

#include "core/error.h"
#include "core/json/json.h"
#include "core/storage/durable.h"
#include "kernels/trace.h"

namespace infalign::stages {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kLongestLine = 16 << 20;      // of its output
constexpr std::size_t kLongestErrorLine = 4 << 10;  // longer ones are shown in pieces
constexpr std::size_t kShownBytes = 160;
constexpr milliseconds kLastMoments{1000};  // between closing its output and ending
constexpr int kLastReads = 64;              // of its standard error at the end
constexpr double kLongestTimeout = 1e8;     // seconds, within every clock's range

/// A text from elsewhere, for one line of a message: shortened, quoted, escaped.
std::string shown(const std::string& text) {
  return json_text(Json(text.substr(0, kShownBytes))) + (text.size() > kShownBytes ? "..." : "");
}

bool is_blank(const std::string& line) { return line.find_first_not_of(" \t\r") == std::string::npos; }

enum class ReadResult { kData, kNothingNow, kEnd };

ReadResult read_some(const Descriptor& from, std::string& into) {
  std::array<char, 1 << 16> buffer;
  const auto count = ::read(from.number(), buffer.data(), buffer.size());
  if (count > 0) into.append(buffer.data(), static_cast<std::size_t>(count));
  if (count > 0) return ReadResult::kData;
  const bool later = count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
  return later ? ReadResult::kNothingNow : ReadResult::kEnd;
}

/// Calls use(line) for each whole line at the beginning of `text` while it returns true, and cuts them off.
template <class Use>
void for_each_line(std::string& text, Use&& use) {
  std::size_t begin = 0;
  for (auto end = text.find('\n'); end != std::string::npos; end = text.find('\n', begin)) {
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    if (!use(line)) break;
  }
  text.erase(0, begin);
}

}  // namespace

/// The responses to one prompt: the lines that ask for their rewards, and the rewards as they come.
class RewardCommand::Batch {
 public:
  Batch(std::uint64_t first_id, const std::string& prompt, const std::vector<std::string>& responses)
      : first_id_(first_id), prompt_(prompt), rewards_(responses.size()) {
    for (std::size_t i = 0; i < responses.size(); ++i)
      request_ +=
          json_text(Json{{"id", first_id + i}, {"prompt", prompt}, {"response", responses[i]}}) + "\n";
    forget();
  }

  const std::string& request() const { return request_; }
  const std::string& wrong() const { return wrong_; }
  std::size_t missing() const { return missing_; }
  const std::vector<std::optional<float>>& rewards() const { return rewards_; }

  /// Before the program is asked again.
  void forget() {
    std::fill(rewards_.begin(), rewards_.end(), std::nullopt);
    missing_ = rewards_.size();
  }

  /// Takes a line of the program's output; false, with wrong() saying why, if it is not what it should be.
  bool take(const std::string& line) {
    if (is_blank(line)) return true;
    const auto answer = parse_json(line);
    if (answer.is_discarded())
      return refuse(line, "is not JSON (NaN is not; messages belong on standard error)");
    if (!answer.is_object()) return refuse(line, "is not a JSON object");
    if (!answer.contains("id")) return refuse(line, "has no \"id\"");
    if (!answer["id"].is_number_unsigned()) return refuse(line, "has an \"id\" that is not the number given");
    if (!answer.contains("reward")) return refuse(line, "has no \"reward\"");
    const auto& reward = answer["reward"];
    if (!reward.is_number()) return refuse(line, "has a \"reward\" that is not a number");
    const auto value = reward.get<double>();
    if (!(std::abs(value) <= static_cast<double>(std::numeric_limits<float>::max())))
      return refuse(line, "has a \"reward\" beyond the range of float32");
    const auto i = answer["id"].get<std::uint64_t>() - first_id_;
    if (i >= rewards_.size()) return refuse(line, "has an \"id\" that was not asked for");
    if (rewards_[i]) return refuse(line, "has an \"id\" that was answered before");
    rewards_[i] = static_cast<float>(value);
    --missing_;
    return true;
  }

  bool refuse(const std::string& line, const std::string& what) {
    wrong_ = "wrote a line that " + what + ": " + shown(line) + "; right would be, for each line it reads, " +
             json_text(Json{{"id", first_id_}, {"reward", 0.5}}) + "; " + about_prompt();
    return false;
  }

  /// For messages.
  std::string about_prompt() const {
    return "it was asked about prompt " + shown(prompt_) + ", " + std::to_string(rewards_.size() - missing_) +
           " of " + std::to_string(rewards_.size()) + " responses answered";
  }

 private:
  std::uint64_t first_id_;
  const std::string& prompt_;
  std::vector<std::optional<float>> rewards_;
  std::size_t missing_ = 0;
  std::string request_, wrong_;
};

RewardCommand::RewardCommand(std::string name, std::vector<std::string> command, double timeout,
                             std::int64_t restarts)
    : name_(std::move(name)),
      command_(std::move(command)),
      timeout_(std::min(timeout, kLongestTimeout)),
      restarts_(restarts) {}

RewardCommand::~RewardCommand() {
  if (!child_) return;
  child_->input.close();
  end_child(ChildProcess::kGrace);
}

std::vector<float> RewardCommand::score(const kernels::Stream&, std::span<const std::int32_t>,
                                        const std::string& prompt_text,
                                        std::span<const std::vector<std::int32_t>>,
                                        const std::vector<std::string>& response_texts) {
  Batch batch(next_id_, prompt_text, response_texts);
  next_id_ += response_texts.size();
  for (std::int64_t restart = 0;; ++restart) {
    const std::string failure = attempt(batch);
    if (!batch.wrong().empty()) throw InputError(who() + batch.wrong());
    if (failure.empty()) break;
    const std::string what = who() + failure + "; " + batch.about_prompt() +
                             (last_words_.empty() ? "" : "; its last words: " + shown(last_words_));
    if (restart == restarts_)
      throw std::runtime_error(
          what + (restart > 0 ? "; started " + std::to_string(restart + 1) + " times, given up" : ""));
    spdlog::warn("{}; it is started again ({} of {})", what, restart + 1, restarts_);
    batch.forget();
  }
  std::vector<float> rewards;
  for (const auto& reward : batch.rewards()) rewards.push_back(*reward);
  return rewards;
}

/// Asks for a batch. Returns what the program did instead of answering, or ""; unless all is well it has been
/// ended.
std::string RewardCommand::attempt(Batch& batch) {
  if (!child_) {
    unread_.clear();
    unshown_.clear();
    last_words_.clear();
    try {
      child_ = std::make_unique<ChildProcess>(command_);
    } catch (const std::exception& error) {
      throw std::runtime_error(name_ + ": " + error.what());
    }
  }
  const WithoutBrokenPipeSignal guard;
  const auto limit =
      std::chrono::duration_cast<steady_clock::duration>(std::chrono::duration<double>(timeout_));
  const auto failure = attempt_until(batch, steady_clock::now() + limit);
  if (!failure.empty() || !batch.wrong().empty()) end_child(milliseconds(0));
  return failure;
}

std::string RewardCommand::attempt_until(Batch& batch, steady_clock::time_point deadline) {
  std::size_t written = 0;
  const auto& request = batch.request();
  if (!take_lines(batch)) return "";
  // A batch is written whole even if every reward is there already, so that the next begins with a line.
  while (batch.missing() > 0 || (written < request.size() && child_->input.is_open())) {
    const bool writes = child_->input.is_open() && written < request.size();
    std::array<pollfd, 3> ready = {{{writes ? child_->input.number() : -1, POLLOUT, 0},
                                    {child_->output.number(), POLLIN, 0},
                                    {child_->errors.number(), POLLIN, 0}}};
    const auto left = std::chrono::ceil<milliseconds>(deadline - steady_clock::now()).count();
    if (left <= 0) return "took more than " + json_text(Json(timeout_)) + " s";
    kernels::pulse();  // the program has a time limit of its own
    if (poll(ready.data(), ready.size(), static_cast<int>(std::min<std::int64_t>(left, 500))) <= 0)
      continue;  // the time limit, or a signal
    if (ready[2].revents != 0) show_errors();
    if (ready[1].revents != 0) {
      const auto result = read_some(child_->output, unread_);
      if (!take_lines(batch)) return "";
      if (result == ReadResult::kEnd) {
        const auto end = end_child(kLastMoments);
        return end.empty() ? "closed its standard output" : "ended with " + end;
      }
    }
    if (ready[0].revents != 0) {
      const auto count = ::write(child_->input.number(), request.data() + written, request.size() - written);
      if (count >= 0) written += static_cast<std::size_t>(count);
      if (count < 0 && errno == EPIPE) child_->input.close();  // it may still answer
    }
  }
  return "";
}

/// False if a line is wrong.
bool RewardCommand::take_lines(Batch& batch) {
  for_each_line(unread_, [&](const std::string& line) { return batch.take(line); });
  return batch.wrong().empty() &&
         (unread_.size() <= kLongestLine || batch.refuse(unread_, "has no end after 16 MiB"));
}

/// True if there may be more.
bool RewardCommand::show_errors() {
  const auto result = read_some(child_->errors, unshown_);
  for_each_line(unshown_, [&](const std::string& line) { return show_error_line(line), true; });
  const bool ends = result == ReadResult::kEnd;
  if (ends) child_->errors.close();
  if (unshown_.size() > kLongestErrorLine || (ends && !unshown_.empty())) {
    show_error_line(unshown_);
    unshown_.clear();
  }
  return result == ReadResult::kData;
}

void RewardCommand::show_error_line(const std::string& line) {
  if (!is_blank(line)) last_words_ = line;
  std::cerr << name_ + ": " + line + "\n" << std::flush;
}

/// Gives the program `limit` to end by itself, then kills it; shows what it still said. Returns how it ended
/// by itself, or "".
std::string RewardCommand::end_child(milliseconds limit) {
  if (!child_) return "";
  const auto deadline = steady_clock::now() + limit;
  std::optional<std::string> end;
  for (bool over = false; !over;) {
    over = end || steady_clock::now() >= deadline;
    for (int reads = 0; reads < kLastReads && child_->errors.is_open() && show_errors();) ++reads;
    if (!over) end = child_->wait(milliseconds(10));
  }
  if (!is_blank(unshown_)) show_error_line(unshown_);
  child_->kill();
  child_.reset();
  return end.value_or("");
}

std::string RewardCommand::who() const {
  std::string words;
  for (const auto& word : command_) words += (words.empty() ? "" : " ") + word;
  return name_ + ": the program `" +
         (words.size() > kShownBytes ? words.substr(0, kShownBytes) + "..." : words) + "` ";
}

std::string RewardCommand::fingerprint() const {
  storage::Fingerprint fingerprint;
  for (const auto& word : command_) {
    fingerprint.add(word).add("\n");
    std::error_code ignored;
    const bool is_path = word.find('/') != std::string::npos;
    if (is_path && std::filesystem::is_regular_file(word, ignored)) fingerprint.add_file(word);
  }
  return fingerprint.hex();
}

}  // namespace infalign::stages
