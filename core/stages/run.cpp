#include "core/stages/run.h"

#include <spdlog/spdlog.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "core/error.h"
#include "core/json/json.h"
#include "core/storage/durable.h"
#include "kernels/trace.h"

namespace infalign::stages {
namespace {

std::atomic<bool> signal_received{false};

std::filesystem::path record_path(const Run& run, const std::string& key) {
  return run.experiment.output / ".stages" / (key + ".json");
}

}  // namespace

void Run::at(std::string place) {
  where = std::move(place);
  if (watchdog != nullptr) watchdog->at(where);
}

std::string Run::from_root(const std::function<std::string()>& compute) const {
  std::string text;
  if (root()) text = compute();
  std::uint64_t size = text.size();
  ranks.broadcast(std::as_writable_bytes(std::span(&size, 1)), 0);
  text.resize(size);
  ranks.broadcast(std::as_writable_bytes(std::span(text)), 0);
  return text;
}

bool Run::is_done(const std::string& key, const std::string& fingerprint,
                  const std::filesystem::path& product) const {
  return from_root([&]() -> std::string {
           const auto path = record_path(*this, key);
           if (!std::filesystem::exists(path) || !std::filesystem::exists(product)) return "no";
           const auto record = parse_json(storage::read_file(path));
           return record.is_object() && record.value("fingerprint", "") == fingerprint ? "yes" : "no";
         }) == "yes";
}

void Run::mark_done(const std::string& key, const std::string& fingerprint) const {
  if (root()) {
    const auto path = record_path(*this, key);
    std::filesystem::create_directories(path.parent_path());
    storage::write_file_durably(path, json_text(Json{{"fingerprint", fingerprint}}) + "\n");
  }
  ranks.barrier();
}

bool Run::stop_requested() {
  const bool late = time_limit.reached();
  double flag = signal_received || late ? 1 : 0;
  ranks.all_reduce_max(std::span(&flag, 1));
  return flag > 0;
}

void listen_for_stop_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([signals] {
    using Clock = std::chrono::steady_clock;
    Clock::time_point first;
    for (int signal = 0; sigwait(&signals, &signal) == 0;) {
      if (!signal_received.exchange(true)) {
        first = Clock::now();
      } else if (Clock::now() - first > std::chrono::seconds(1)) {
        std::_Exit(1);
      }
    }
  }).detach();
}

void require_ranks(const experiment::Experiment& experiment, int ranks) {
  const std::int64_t group = experiment.distributed.shard_ranks;
  if (group > 0 && ranks > group && ranks % group != 0)
    throw ConfigurationError("distributed.shard_ranks: groups of " + std::to_string(group) +
                             " ranks do not make " + std::to_string(ranks) +
                             "; use a number that divides it, as a rule that of the ranks of a host, or 0");
}

void log_line(const Run& run, const std::string& line) {
  if (run.root()) spdlog::info("{}", line);
}

void log_once(Run& run, const std::string& line) {
  if (run.logged.insert(line).second) log_line(run, line);
}

distributed::Interval own_micro_batches(const Run& run, std::int64_t count) {
  return distributed::shares(count, run.ranks.size())[static_cast<std::size_t>(run.ranks.rank())];
}

void run_stages(Run& run, const std::vector<experiment::Stage>& stages) {
  run.from_root([&]() -> std::string {
    std::error_code failure;
    std::filesystem::create_directories(run.experiment.output, failure);
    if (failure)
      throw std::runtime_error(run.experiment.output.string() + ": cannot create the output folder (" +
                               failure.message() + ")");
    storage::write_file_durably(run.experiment.output / "experiment.yaml", run.experiment.yaml);
    return "";
  });
  for (const auto stage : stages) {
    if (stage != stages.front() && run.stop_requested())
      throw Stopped("stopped on request before the stage " + experiment::stage_name(stage) +
                    "; what is done is kept, start again to go on");
    const std::string name = "stage " + experiment::stage_name(stage);
    const kernels::Span span(name);
    run.at(name);
    switch (stage) {
      case experiment::Stage::kFinetune:
        finetune(run);
        break;
      case experiment::Stage::kReward:
        train_reward(run);
        break;
      case experiment::Stage::kCalibrate:
        calibrate(run);
        break;
      case experiment::Stage::kAlign:
        align(run);
        break;
      case experiment::Stage::kEvaluate:
        evaluate(run);
        break;
      case experiment::Stage::kReport:
        report(run);
        break;
      case experiment::Stage::kExport:
        export_policies(run);
        break;
    }
  }
}

}  // namespace infalign::stages
