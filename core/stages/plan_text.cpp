// A plan in words for people and in JSON for scripts.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <sstream>

#include "core/json/json.h"
#include "core/stages/plan.h"

namespace infalign::stages {
namespace {

std::string in_units(double value, double base, std::initializer_list<const char*> units) {
  auto unit = units.begin();
  for (; value >= base && unit + 1 != units.end(); ++unit) value /= base;
  const int decimals = unit == units.begin() || value >= 99.95 ? 0 : 1;
  return fmt::format("{:.{}f}{}", value, decimals, *unit);
}

std::string count(double value) { return in_units(value, 1000, {"", " k", " M", " G", " T"}); }
std::string count(std::int64_t value) { return count(static_cast<double>(value)); }
std::string bytes(std::int64_t value) {
  return in_units(static_cast<double>(value), 1024, {" B", " KiB", " MiB", " GiB", " TiB"});
}
std::string duration(double seconds) {
  if (seconds < 100) return fmt::format("{:.1f} s", seconds);
  if (seconds < 6000) return fmt::format("{:.0f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

std::string plural(std::int64_t n, const std::string& one) {
  return fmt::format("{} {}{}", n, one, n == 1 ? "" : "s");
}

std::string model_line(const ModelSizes& model) {
  const auto& c = model.config;
  return fmt::format(
      "{:<8}{:>8} parameters: {}, width {}, {} in the feed-forward, {} heads ({} for keys and "
      "values), vocabulary {}, context {}\n{:8}{} {}\n",
      model.role, count(model.parameters), plural(c.layers, "layer"), c.hidden_size, c.intermediate_size,
      c.heads, c.kv_heads, c.vocab_size, c.max_positions, "",
      model.made_by_run ? "made by this run from" : "from", model.described_by.string());
}

std::string work_line(const StageWork& work) {
  std::string line = work.stage + ": ";
  if (work.runs > 1)
    line += fmt::format("{} {} x ", work.runs, work.stage == "align" ? "variants" : "policies");
  if (work.steps > 1) line += plural(work.steps, "step") + " of ";
  line += fmt::format("{} {}", work.items, work.item);
  if (work.samples > 0) line += fmt::format(", {} samples", work.samples);
  const auto passes = static_cast<double>(work.runs * work.steps);
  if (passes > 1) line += fmt::format(", {} tokens", count(work.tokens / passes));
  line += fmt::format("{}{} tokens", passes > 1 ? "; in all " : ", ", count(work.tokens));
  return line + "\n";
}

/// "16 micro-batches a step: up to 16 ranks have work, evenly on 1, 2, 4, 8, 16".
std::string sharing_line(const StageWork& work) {
  constexpr std::size_t kShown = 16;
  const auto even = even_shares(work.micro_batches);
  std::string line =
      fmt::format("  {}{}: up to {} have work, evenly on ",
                  fmt::format("{} micro-batch{}", work.micro_batches, work.micro_batches == 1 ? "" : "es"),
                  work.steps > 1 ? " a step" : "", plural(work.micro_batches, "rank"));
  for (std::size_t i = 0; i < std::min(kShown, even.size()); ++i)
    line += (i > 0 ? ", " : "") + std::to_string(even[i]);
  if (even.size() > kShown) line += fmt::format(", ... ({} numbers)", even.size());
  return line + "\n";
}

/// A stage's memory by its parts, the others' in one line each. `parts_of(stage)` are those that are meant.
template <class PartsOf>
std::string stages_text(const Plan& plan, PartsOf&& parts_of) {
  const auto line = [](std::int64_t size, const std::string& what) {
    return fmt::format("  {:>10}  {}\n", bytes(size), what);
  };
  if (plan.memory.empty()) return "";
  const auto& largest = *std::ranges::max_element(
      plan.memory, {}, [&](const StageMemory& stage) { return sum(parts_of(stage)); });
  std::string text = line(sum(parts_of(largest)), "stage " + largest.stage + ", the largest:");
  for (const auto& part : parts_of(largest))
    text += fmt::format("  {:>22}  {}\n", bytes(part.bytes), part.what);
  for (const auto& stage : plan.memory)
    if (&stage != &largest) text += line(sum(parts_of(stage)), "stage " + stage.stage);
  return text;
}

std::string memory_text(const Plan& plan, const Host& host) {
  const auto computing = [](const StageMemory& stage) -> const auto& { return stage.parts; };
  const auto besides = [](const StageMemory& stage) -> const auto& { return stage.on_cpu; };
  const bool on_gpu = plan.device == kernels::Device::kCuda;
  std::string text;
  if (const auto* largest = plan.largest(); on_gpu && largest != nullptr)
    text = fmt::format(
               "Memory of a GPU, on {}: {} at the most, and what CUDA, cuBLASLt and NCCL take\n"
               "themselves: mostly some hundreds of MiB\n",
               plural(plan.ranks, "rank"), bytes(sum(largest->parts))) +
           stages_text(plan, computing) + "\n";
  text += fmt::format("Memory per rank, on {}: {} at the most\n", plural(plan.ranks, "rank"),
                      bytes(host.peak(plan)));
  text += fmt::format("  {:>10}  the program: libraries, tokenizers, data (measured: what this check took)\n",
                      bytes(host.program_bytes));
  if (plan.ranks > 1) text += fmt::format("  {:>10}  MPI itself, about\n", bytes(host.mpi_bytes));
  return text + (on_gpu ? stages_text(plan, besides) : stages_text(plan, computing));
}

std::string disk_text(const Plan& plan) {
  std::string text = fmt::format("Disk: {} at the end\n", bytes(sum(plan.disk)));
  for (const auto& size : plan.disk) text += fmt::format("  {:>10}  {}\n", bytes(size.bytes), size.what);
  return text;
}

/// Not a number where the speed is not known.
double seconds(const StageWork& work, const Plan& plan, const Host& host) {
  if (host.operations_per_second == 0) return std::numeric_limits<double>::quiet_NaN();
  return work.operations / host.operations_per_second * work.share(plan.ranks);
}

std::string cost_text(const experiment::Experiment& experiment, const Plan& plan, const Host& host) {
  double operations = 0, time = 0;
  std::string stages;
  for (const auto& work : plan.work) {
    operations += work.operations;
    time += seconds(work, plan, host);
    stages += fmt::format("  {:>10}  {:>10}  {}\n", count(work.operations),
                          duration(seconds(work, plan, host)), work.stage);
  }
  if (host.operations_per_second == 0)
    return fmt::format("Cost: {} floating-point operations; --gflops tells the time at a speed of yours\n",
                       count(operations));
  return fmt::format(
             "Cost: {} floating-point operations; {} on {}, at the {:.1f} GFLOP/s {}, {} a rank.\n"
             "  Matrix products and attention only, all responses at their longest; small models spend\n"
             "  as long or longer on the rest, and ranks that share a machine share its speed.\n",
             count(operations), duration(time), plural(plan.ranks, "rank"), host.operations_per_second / 1e9,
             host.measured ? "measured here in a product of the policy" : "given",
             plural(experiment.distributed.threads, "thread")) +
         stages;
}

OrderedJson sizes_json(const std::vector<Size>& sizes) {
  auto json = OrderedJson::object();
  for (const auto& size : sizes) json[size.what] = size.bytes;
  return json;
}

}  // namespace

std::string plan_comments(const experiment::Experiment& experiment, const Plan& plan, const Host& host) {
  std::string text = "Models\n";
  const auto indented = [&](const std::string& lines) {
    std::istringstream in(lines);
    for (std::string line; std::getline(in, line);) text += "  " + line + "\n";
  };
  for (const auto& model : plan.models) indented(model_line(model));
  const auto& sources = experiment.model;
  for (const auto& [role, source] : {std::pair("reward", &sources.reward), std::pair("judge", &sources.judge),
                                     std::pair("reranker", &sources.reranker)})
    if (!source->command.empty())
      text += fmt::format("  {:<9}by a program, {}: its memory and time are not in what follows\n", role,
                          source->command.front());
  text += "\nWork (tokens at most: every response at its longest)\n";
  for (const auto& work : plan.work) indented(work_line(work) + sharing_line(work));
  for (const auto& note : plan.notes) indented(note + "\n");
  text += "\n" + memory_text(plan, host) + "\n" + disk_text(plan) + "\n" + cost_text(experiment, plan, host);

  std::string comments;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) comments += (line.empty() ? "#" : "# " + line) + "\n";
  return comments;
}

OrderedJson plan_json(const experiment::Experiment& experiment, const Plan& plan, const Host& host) {
  auto models = OrderedJson::object();
  for (const auto& model : plan.models) {
    const auto& c = model.config;
    models[model.role] = {{"folder", model.described_by.string()},
                          {"made_by_run", model.made_by_run},
                          {"parameters", model.parameters},
                          {"layers", c.layers},
                          {"hidden_size", c.hidden_size},
                          {"intermediate_size", c.intermediate_size},
                          {"heads", c.heads},
                          {"kv_heads", c.kv_heads},
                          {"vocab_size", c.vocab_size},
                          {"max_positions", c.max_positions}};
  }
  auto work = OrderedJson::array(), cost = OrderedJson::array();
  double operations = 0, time = 0;
  for (const auto& stage : plan.work) {
    work.push_back({{"stage", stage.stage},
                    {"runs", stage.runs},
                    {"steps", stage.steps},
                    {"item", stage.item},
                    {"items_per_step", stage.items},
                    {"samples_per_step", stage.samples},
                    {"micro_batches_per_step", stage.micro_batches},
                    {"even_on_ranks", even_shares(stage.micro_batches)},
                    {"tokens", stage.tokens}});
    cost.push_back(
        {{"stage", stage.stage}, {"operations", stage.operations}, {"seconds", seconds(stage, plan, host)}});
    operations += stage.operations;
    time += seconds(stage, plan, host);
  }
  const bool on_gpu = plan.device == kernels::Device::kCuda;
  auto memory = OrderedJson::object(), of_gpu = OrderedJson::object();
  for (const auto& stage : plan.memory) {
    memory[stage.stage] = sizes_json(on_gpu ? stage.on_cpu : stage.parts);
    if (on_gpu) of_gpu[stage.stage] = sizes_json(stage.parts);
  }
  OrderedJson all{{"configuration", experiment.yaml},
                  {"models", models},
                  {"work", work},
                  {"notes", plan.notes},
                  {"memory",
                   {{"ranks", plan.ranks},
                    {"program", host.program_bytes},
                    {"mpi", plan.ranks > 1 ? host.mpi_bytes : 0},
                    {"stages", memory},
                    {"peak", host.peak(plan)}}},
                  {"disk", sizes_json(plan.disk)},
                  {"cost",
                   {{"gflops", host.operations_per_second / 1e9},
                    {"measured", host.measured},
                    {"threads", experiment.distributed.threads},
                    {"stages", cost},
                    {"operations", operations},
                    {"seconds", time}}}};
  if (const auto* largest = plan.largest(); on_gpu && largest != nullptr)
    all["gpu_memory"] = {{"stages", of_gpu}, {"peak", sum(largest->parts)}};
  return all;
}

}  // namespace infalign::stages
