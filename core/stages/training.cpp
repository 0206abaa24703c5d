#include "core/stages/training.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numbers>
#include <numeric>
#include <sstream>

#include "core/error.h"
#include "core/stages/idle_time.h"
#include "core/stages/metrics.h"
#include "core/stages/model_folder.h"
#include "core/stages/progress.h"
#include "kernels/trace.h"

namespace infalign::stages {
namespace {

const std::string kFirstMoment = "optimizer/first_moment";
const std::string kSecondMoment = "optimizer/second_moment";

storage::FlatInterval flat(distributed::Interval interval) { return {interval.begin, interval.end}; }

/// The interval that each rank owns, in the order of ranks. Collective.
std::vector<storage::FlatInterval> own_intervals(const Run& run,
                                                 const distributed::ShardedOptimizer& optimizer) {
  return gather(run, std::vector{flat(optimizer.own())});
}

/// Where parameters are held whole, as an adapter's are, there is no more to divide than the optimizer.
distributed::Sharding sharding(const Run& run, const TrainingPlan& plan) {
  const auto asked = static_cast<distributed::Sharding>(run.experiment.distributed.sharding);
  return asked == distributed::Sharding::kParameters && !plan.sharded ? distributed::Sharding::kOptimizer
                                                                      : asked;
}

}  // namespace

double learning_rate(const experiment::OptimizerSettings& settings, std::int64_t step, std::int64_t steps) {
  if (step <= settings.warmup_steps)
    return settings.learning_rate * static_cast<double>(step) / static_cast<double>(settings.warmup_steps);
  const double progress = static_cast<double>(step - settings.warmup_steps - 1) /
                          static_cast<double>(std::max<std::int64_t>(1, steps - settings.warmup_steps - 1));
  const double floor = settings.final_learning_rate_fraction;
  double fraction = 1;
  if (settings.schedule == "linear") fraction = 1 - (1 - floor) * progress;
  if (settings.schedule == "cosine")
    fraction = floor + (1 - floor) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
  return settings.learning_rate * fraction;
}

std::string to_text(const experiment::OptimizerSettings& settings) {
  return settings.schedule + " " +
         to_text(std::vector{settings.learning_rate, settings.final_learning_rate_fraction,
                             static_cast<double>(settings.warmup_steps), settings.beta1, settings.beta2,
                             settings.epsilon, settings.weight_decay, settings.max_gradient_norm});
}

Training::Training(Run& run, TrainingPlan plan, std::vector<storage::TensorPlace> tensors,
                   const Trainable& trained)
    : run_(run),
      plan_(std::move(plan)),
      tensors_(std::move(tensors)),
      optimizer_(run.groups.owners(), tensors_.back().offset + tensors_.back().size,
                 run.experiment.distributed.reproducible ? distributed::SumMode::kReproducible
                                                         : distributed::SumMode::kFast,
                 decayed_intervals(tensors_), sharding(run, plan_), distributed::kBucket,
                 {run.on, run.collectives, run.of_copies}, plan_.sharded ? run.groups.copies() : nullptr,
                 plan_.gradient_parts, trained.copy),
      parameters_(trained.parameters),
      checkpoints_(run, plan_.checkpoints, tensors_, own_intervals(run, optimizer_)) {
  if (trained.copy) {
    const auto held = optimizer_.held_parameters();
    own_parameters_ = kernels::Buffer<float>(run.on, static_cast<std::size_t>(held.size()));
    parameters_ = own_parameters_.span();
    trained.start(held, parameters_);
  }
  resume();
  if (trained.copy) optimizer_.publish(parameters_);
}

void Training::resume() {
  std::vector<std::string> damaged;
  for (;;) {
    const std::string folder = run_.from_root([&] { return newest_checkpoint(damaged); });
    if (folder.empty() && damaged.empty()) return;
    if (folder.empty())
      throw InputError(plan_.checkpoints.string() + ": all checkpoints are damaged, the oldest is " +
                       damaged.back() + "; remove the folder to train anew");
    const std::string damage = read_checkpoint(folder);
    if (damage.empty()) {
      if (!finished()) log_line(run_, "resuming from " + folder);
      return;
    }
    if (!run_.experiment.checkpoint.use_older)
      throw InputError(damage + "; --set checkpoint.use_older=true goes on from the checkpoint before it");
    log_line(run_, damage + "; trying the checkpoint before it");
    damaged.push_back(folder);
  }
}

std::string Training::newest_checkpoint(const std::vector<std::string>& damaged) const {
  for (auto folders = storage::list_checkpoints(plan_.checkpoints); !folders.empty(); folders.pop_back()) {
    const std::string folder = folders.back().string();
    if (std::ranges::find(damaged, folder) != damaged.end()) continue;
    try {
      const auto info = storage::CheckpointReader(folder).info();
      const auto found = info.state.find("fingerprint");
      if (found != info.state.end() && found->second == plan_.fingerprint) return folder;
    } catch (const InputError&) {
      return folder;  // what is wrong with it is told when it is read
    }
    log_line(run_, folder + ": made from other inputs; set aside, starting anew");
    std::filesystem::remove_all(folder);
  }
  return "";
}

std::string Training::read_checkpoint(const std::filesystem::path& folder) {
  std::string damage;
  try {
    const storage::CheckpointReader reader(folder);
    const auto read = [&](const std::string& group, storage::FlatInterval interval, std::span<float> values) {
      kernels::fill_by_cpu(run_.on, values,
                           [&](std::span<float> here) { reader.read(group, tensors_, interval, here); });
    };
    const auto wanted = optimizer_.held_parameters();
    read("model", flat(wanted), parameters_);
    read(kFirstMoment, flat(optimizer_.held()), optimizer_.first_moment());
    read(kSecondMoment, flat(optimizer_.held()), optimizer_.second_moment());
    state_ = reader.info().state;
    steps_done_ = reader.info().step;
    skipped_ = std::stoll(state_.at("skipped_steps"));
    optimizer_.set_steps(std::stoll(state_.at("optimizer_steps")));
    run_.on.synchronise();  // before ranks meet
  } catch (const InputError& error) {
    damage = error.what();
  }
  for (const auto& bytes : run_.ranks.all_gather_bytes(std::as_bytes(std::span(damage))))
    if (!bytes.empty()) return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  return "";
}

void Training::save(std::int64_t step) {
  storage::CheckpointInfo info;
  info.step = step;
  info.world_size = run_.ranks.size();
  info.seed = run_.experiment.seed;
  info.configuration = run_.experiment.yaml;
  info.git_revision = run_.revision;
  info.state = state_;
  info.state["fingerprint"] = plan_.fingerprint;
  info.state["skipped_steps"] = std::to_string(skipped_);
  info.state["optimizer_steps"] = std::to_string(optimizer_.steps());
  const auto own_part = [this](std::span<const float> values, std::int64_t begin) {
    const auto own = optimizer_.own();
    return values.subspan(static_cast<std::size_t>(own.begin - begin), static_cast<std::size_t>(own.size()));
  };
  const std::int64_t held = optimizer_.held().begin;
  const std::vector<storage::FlatShard> groups = {
      {"model", own_part(parameters_, optimizer_.held_parameters().begin)},
      {kFirstMoment, own_part(optimizer_.first_moment(), held)},
      {kSecondMoment, own_part(optimizer_.second_moment(), held)}};
  checkpoints_.begin(info, groups);
}

void Training::run(const std::function<StepReport(std::int64_t step)>& gradients,
                   const std::function<void(std::int64_t step)>& after) {
  const auto title = plan_.variant.empty() ? plan_.stage : plan_.stage + " " + plan_.variant;
  const bool reporting = run_.root() && run_.progress;
  Progress progress(title, plan_.steps, reporting);
  Metrics metrics(run_.experiment.metrics_path(), plan_.stage, plan_.variant, steps_done_ + 1, run_.root());
  for (std::int64_t step = steps_done_ + 1; step <= plan_.steps; ++step) {
    run_.at("stage " + plan_.stage + (plan_.variant.empty() ? "" : " (variant " + plan_.variant + ")") +
            ", step " + std::to_string(step));
    const kernels::Span span("step");
    const auto start = std::chrono::steady_clock::now();
    const WorkTime work(run_);
    const double exposed = exposed_seconds(), communicated = communication_seconds();
    optimizer_.begin_step(plan_.micro_batches, own_micro_batches(run_, plan_.micro_batches).size());
    auto report = gradients(step);
    const auto idle = idle_shares(run_, work);
    kernels::AdamWStep hyper;
    hyper.learning_rate = static_cast<float>(learning_rate(plan_.optimizer, step, plan_.steps));
    hyper.beta1 = static_cast<float>(plan_.optimizer.beta1);
    hyper.beta2 = static_cast<float>(plan_.optimizer.beta2);
    hyper.epsilon = static_cast<float>(plan_.optimizer.epsilon);
    hyper.weight_decay = static_cast<float>(plan_.optimizer.weight_decay);
    const auto result = optimizer_.step(hyper, plan_.optimizer.max_gradient_norm, parameters_);
    if (!result.applied && ++skipped_ > plan_.max_skipped_steps) {
      checkpoints_.finish();
      throw std::runtime_error("the gradient was not finite in " + std::to_string(skipped_) +
                               " steps; the last one is " + std::to_string(step) +
                               ". The newest checkpoint is whole: lower the learning rate and start again");
    }
    if (after) after(step);
    steps_done_ = step;

    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    report.metrics["learning_rate"] = hyper.learning_rate;
    // A norm that is not finite has no number in JSON.
    report.metrics["gradient_norm"] =
        result.applied ? OrderedJson(result.gradient_norm) : OrderedJson(nullptr);
    report.metrics["skipped_steps"] = skipped_;
    if (const double total = communication_seconds() - communicated;
        run_.ranks.size() > 1 && run_.on.device() == kernels::Device::kCpu)
      report.metrics["exposed_communication"] =
          total > 0 ? std::min(1.0, (exposed_seconds() - exposed) / total) : 0.0;
    report.metrics["seconds"] = seconds.count();
    if (idle.size() > 1) {
      report.metrics["idle_share"] =
          std::accumulate(idle.begin(), idle.end(), 0.0) / static_cast<double>(idle.size());
      report.metrics["idle_shares"] = idle;
    }
    metrics.write(step, report.metrics);
    progress.update(step, report.note);

    const bool last = step == plan_.steps;
    const bool stop = run_.stop_requested();
    checkpoints_.poll();
    if (last || stop || step % run_.experiment.checkpoint.every == 0) save(step);
    if (last || stop) checkpoints_.finish();
    if (stop && !last)
      throw Stopped("stopped on request after step " + std::to_string(step) + " of " + title +
                    "; the checkpoint is complete, start again to go on");
  }
  progress.finish("");
}

std::string to_text(std::span<const double> values) {
  std::string text;
  for (const double value : values) {
    char buffer[40];
    std::snprintf(buffer, sizeof buffer, "%a ", value);
    text += buffer;
  }
  return text;
}

std::vector<double> from_text(const std::string& text) {
  std::vector<double> values;
  const char* at = text.c_str();
  for (char* end = nullptr;; at = end) {
    const double value = std::strtod(at, &end);
    if (end == at) return values;
    values.push_back(value);
  }
}

}  // namespace infalign::stages
