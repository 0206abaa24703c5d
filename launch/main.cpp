// The program: reads the command line, validates the configuration before anything is started, brings up the
// ranks, and turns every failure into one line and a documented exit code.
#include <omp.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <thread>

#include "core/error.h"
#include "core/experiment/experiment.h"
#include "core/json/json.h"
#include "core/stages/adapter_folder.h"
#include "core/stages/design.h"
#include "core/stages/device.h"
#include "core/stages/doctor.h"
#include "core/stages/inference.h"
#include "core/stages/plan.h"
#include "core/stages/result_table.h"
#include "core/stages/run.h"
#include "core/stages/trace_file.h"
#include "core/storage/durable.h"
#include "core/storage/inspect.h"
#include "core/storage/verify.h"
#include "core/text/chat_template.h"
#include "core/text/records.h"
#include "distributed/launcher.h"
#include "distributed/watchdog.h"
#include "infalign_revision.h"
#include "kernels/trace.h"
#include "launch/design_command.h"
#include "launch/procedure_options.h"

namespace {

using namespace infalign;

enum ExitCode { kDone = 0, kFailed = 1, kUsage = 2, kBadInput = 3, kStopped = 75 };

/// Threads of GCC's OpenMP wait for each other by spinning for milliseconds, unless told otherwise; where
/// other processes want a core as well, a training step was seen to take forty times as long. Spinning for
/// some 50 microseconds costs next to nothing on idle cores. The runtime asks the environment as it is
/// loaded, so the program begins anew; where it cannot, it goes on.
void spin_briefly(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  std::error_code unknown;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", unknown);
  if (!unknown && setenv("GOMP_SPINCOUNT", "2000", 0) == 0) execv(program.c_str(), argv);
}

ExitCode exit_code(const std::exception& error) {
  if (dynamic_cast<const ConfigurationError*>(&error) != nullptr) return kUsage;
  if (dynamic_cast<const InputError*>(&error) != nullptr) return kBadInput;
  if (dynamic_cast<const Stopped*>(&error) != nullptr) return kStopped;
  return kFailed;
}

/// The configuration-driven commands: `run` and the single stages.
struct RunCommand {
  std::string config;
  std::vector<std::string> overrides;
  bool json = false;
  std::string trace;  // a file, or none
  std::optional<experiment::Stage> only;
};

void print_result(const experiment::Experiment& experiment, bool json) {
  if (!std::filesystem::exists(experiment.evaluation_path())) return;
  const auto evaluation = parse_ordered_json(storage::read_file(experiment.evaluation_path()));
  if (json) {
    for (const auto& variant : evaluation["variants"]) std::cout << json_text(variant) << std::endl;
    return;
  }
  std::cout << "\n" << stages::result_table(evaluation);
  if (std::filesystem::exists(experiment.report_path()))
    std::cout << "\nReport: " << experiment.report_path().string() << "\n";
}

/// How long ranks may take to start, where they may be silent for so long afterwards.
double start_seconds(double watchdog_seconds) {
  constexpr double kShortest = 30;
  return watchdog_seconds > 0 ? std::max(watchdog_seconds, kShortest) : 0;
}

int run_on(distributed::Communicator& ranks, std::optional<distributed::StartLimit>& start_limit,
           std::optional<distributed::Watchdog>& watchdog, const experiment::Experiment& experiment,
           const RunCommand& command) {
  stages::RunDevice device;  // outlives what the run has on it
  stages::Run run{experiment, ranks};
  run.revision = INFALIGN_REVISION;
  run.time_limit =
      stages::TimeLimit(stages::job_end(experiment.checkpoint, stages::TimeLimit::system_clock()(),
                                        [](const char* name) -> const char* { return std::getenv(name); }));
  try {
    run.watchdog = &watchdog.emplace(ranks, experiment.distributed.watchdog_seconds);
    start_limit.reset();
    device = stages::open_device(experiment, ranks, run.groups);
    run.on = device.on;
    run.collectives = device.collectives.get();
    run.of_copies = device.of_copies.get();
    kernels::follow_this_thread();  // memory that a GPU lacks is told with what it is for
    if (run.root())
      for (const auto& warning : experiment.warnings) spdlog::warn("{}", warning);
    stages::log_line(run, "infalign " INFALIGN_VERSION " (" INFALIGN_REVISION "): " + experiment.name +
                              " on " + std::to_string(ranks.size()) +
                              (ranks.size() == 1 ? " rank" : " ranks") + ", " + device.words);
    if (!command.trace.empty()) kernels::start_trace();
    stages::run_stages(run, command.only ? std::vector{*command.only} : experiment.stages);
    if (!command.trace.empty()) stages::write_trace(run, command.trace);
    const bool shows_result = !command.only || *command.only == experiment::Stage::kEvaluate;
    if (run.root() && shows_result) print_result(experiment, command.json);
    return kDone;
  } catch (const Stopped& stopped) {
    stages::log_line(run, stopped.what());
    return kStopped;
  } catch (const std::exception& error) {
    if (watchdog && watchdog->active()) watchdog->fail(exit_code(error), error.what());
    // Without a watchdog, what fails on all ranks alike is told by the root alone; a rank that fails by
    // itself gets its word a moment later.
    if (!run.root()) std::this_thread::sleep_for(std::chrono::seconds(3));
    std::cerr << "infalign: rank " << ranks.rank() << ", " << run.where << ": " << error.what() << std::endl;
    ranks.abort(exit_code(error));
    return exit_code(error);
  }
}

int run_command(const RunCommand& command, int* argc, char*** argv) {
  // Everything that can be wrong with the file is found before a rank or a folder exists; only one rank says
  // so.
  std::optional<experiment::Experiment> experiment;
  try {
    experiment = experiment::load_experiment(command.config, command.overrides, command.only);
    stages::require_hardware(*experiment);
  } catch (const std::exception& error) {
    if (distributed::launcher_rank() == 0) std::cerr << "infalign: " << error.what() << std::endl;
    return exit_code(error);
  }
  stages::listen_for_stop_signals();
  std::optional<distributed::StartLimit> start_limit(start_seconds(experiment->distributed.watchdog_seconds));
  std::optional<distributed::Watchdog> watchdog;  // outlives the ranks: finalising MPI is a wait, too
  const auto ranks = distributed::make_mpi(argc, argv);
  omp_set_num_threads(static_cast<int>(experiment->distributed.threads));
  try {
    stages::require_ranks(*experiment, ranks->size());
  } catch (const std::exception& error) {
    if (ranks->root()) std::cerr << "infalign: " << error.what() << std::endl;
    return exit_code(error);
  }
  const int code = run_on(*ranks, start_limit, watchdog, *experiment, command);
  if (watchdog) watchdog->release();
  return code;
}

/// `infalign doctor`: on all ranks, before a long run.
int doctor_command(const RunCommand& command, int* argc, char*** argv) {
  stages::DoctorOptions options{.output = ".", .version = INFALIGN_VERSION " (" INFALIGN_REVISION ")"};
  double watchdog_seconds = 60;
  try {
    if (!command.config.empty()) {
      const auto experiment = experiment::load_experiment(command.config, command.overrides);
      options.output = experiment.output;
      options.threads = experiment.distributed.threads;
      watchdog_seconds = experiment.distributed.watchdog_seconds;
      if (!experiment.synthetic)
        options.disk_bytes =
            stages::sum(stages::make_plan(experiment, distributed::launch().ranks.value_or(1)).disk);
    }
  } catch (const std::exception& error) {
    if (distributed::launcher_rank() == 0) std::cerr << "infalign: " << error.what() << std::endl;
    return exit_code(error);
  }
  std::optional<distributed::StartLimit> start_limit(start_seconds(watchdog_seconds));
  std::optional<distributed::Watchdog> watchdog;
  const auto ranks = distributed::make_mpi(argc, argv);
  int code = kFailed;
  try {
    watchdog.emplace(*ranks, watchdog_seconds);
    start_limit.reset();
    const auto findings = stages::examine(*ranks, options);
    code = findings["problems"].empty() ? kDone : kFailed;
    if (ranks->root()) {
      std::cout << (command.json ? json_text(findings) + "\n" : stages::doctor_table(findings)) << std::flush;
      for (const auto& problem : findings["problems"])
        std::cerr << "infalign: doctor: " << problem.get<std::string>() << std::endl;
    }
    ranks->barrier();  // what is said is said before a rank's exit code brings the others down
  } catch (const std::exception& error) {
    if (watchdog && watchdog->active()) watchdog->fail(exit_code(error), error.what());
    std::cerr << "infalign: doctor: " << error.what() << std::endl;
    ranks->abort(exit_code(error));
  }
  if (watchdog) watchdog->release();
  return code;
}

struct CheckOptions {
  std::optional<int> ranks;
  std::optional<double> gflops;
};

void check_command(const RunCommand& command, const CheckOptions& options) {
  const auto experiment = experiment::load_experiment(command.config, command.overrides);
  for (const auto& warning : experiment.warnings) std::cerr << "warning: " << warning << "\n";
  if (!command.json) std::cout << experiment.yaml << std::flush;
  const auto advice = stages::rollouts_advice(experiment);
  if (experiment.synthetic) {  // tables: nothing whose size would matter
    if (command.json) std::cout << Json{{"configuration", experiment.yaml}, {"advice", advice}} << "\n";
    if (!command.json) std::cout << stages::as_comments(advice);
    return;
  }
  omp_set_num_threads(static_cast<int>(experiment.distributed.threads));
  const auto plan =
      stages::make_plan(experiment, options.ranks ? *options.ranks : distributed::launch().ranks.value_or(1));
  const auto host = stages::measure_host(plan, options.gflops);
  if (command.json) {
    auto json = stages::plan_json(experiment, plan, host);
    json["advice"] = advice;
    std::cout << json_text(json) << std::endl;
  } else {
    std::cout << "\n" << stages::plan_comments(experiment, plan, host) << stages::as_comments(advice);
  }
}

std::vector<text::Prompt> collect_prompts(const std::string& prompt, const std::string& file,
                                          const std::filesystem::path& model,
                                          const std::string& chat_template) {
  if (!prompt.empty()) return {{prompt}};
  if (file.empty()) throw ConfigurationError("generate: give --prompt TEXT or --prompts FILE.jsonl");
  return text::read_prompts(
      file, [&] { return text::ChatTemplate::load(stages::description_folder(model), chat_template); });
}

void add_chat_template_option(CLI::App& command, std::string& choice) {
  std::string names;
  for (const auto& name : text::ChatTemplate::built_in_names()) names += (names.empty() ? "" : ", ") + name;
  command.add_option(
      "--chat-template", choice,
      "how \"messages\" are written: a Jinja file, or " + names + "; default: the model's own");
}

void add_adapter_option(CLI::App& command, std::filesystem::path& adapter) {
  command.add_option("--adapter", adapter, "folder of a LoRA adapter that is added to the model (PEFT)");
}

void add_storage_option(CLI::App& command, kernels::Precision& stored) {
  static const std::map<std::string, kernels::Precision> kNames = {
      {"float32", kernels::Precision::kFloat32}, {"bfloat16", kernels::Precision::kBfloat16}};
  command
      .add_option("--storage", stored,
                  "float32 or bfloat16: in what weights are held; bfloat16 takes half the memory")
      ->transform(CLI::Transformer(kNames));
}

void add_device_option(CLI::App& command, std::string& device) {
  command
      .add_option("--device", device, "auto, cpu or cuda: where it computes; auto is a GPU if there is one")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
}

template <class Use>
void with_input(const std::string& file, Use&& use) {
  if (file == "-") return use(std::cin, "standard input");
  std::ifstream in(file);
  if (!in) throw InputError(file + ": cannot be read");
  use(in, file);
}

int verify_command(const std::string& path, bool json) {
  const auto files = storage::verify(path);
  const bool sound = std::ranges::all_of(files, [](const auto& file) { return file.damage.empty(); });
  if (json) {
    auto list = OrderedJson::array();
    for (const auto& file : files)
      list.push_back({{"path", file.path.string()},
                      {"sound", file.damage.empty()},
                      {"has_checksums", file.has_checksums},
                      {"damage", file.damage}});
    std::cout << json_text(OrderedJson{{"sound", sound}, {"files", list}}) << std::endl;
  } else {
    std::cout << storage::verify_text(files) << std::flush;
  }
  return sound ? kDone : kBadInput;
}

}  // namespace

int main(int argc, char** argv) {
  spin_briefly(argv);
  spdlog::set_default_logger(spdlog::stderr_color_mt("infalign"));
  spdlog::set_pattern("%H:%M:%S %^%v%$");

  CLI::App app(
      "Inference-aware alignment of language models (InfAlign, arXiv 2412.19792).\n"
      "Example: mpirun -n 2 infalign run configs/quickstart.yaml",
      "infalign");
  app.require_subcommand(1);
  app.set_version_flag("--version", "infalign " INFALIGN_VERSION " (" INFALIGN_REVISION
                                    "), back ends: MPI, CPU (oneDNN)" +
                                        std::string(kernels::has_cuda() ? ", CUDA, NCCL" : ""));

  RunCommand run;
  const auto add_run_command = [&](const std::string& name, const std::string& what,
                                   std::optional<experiment::Stage> stage) {
    auto* command = app.add_subcommand(
        name, what + "\nExample: mpirun -n 2 infalign " + name + " configs/quickstart.yaml --set seed=2");
    command->add_option("config", run.config, "YAML file of the experiment")->required();
    command->add_option("--set", run.overrides, "key.path=value: overrides the file (repeatable)")
        ->take_all();
    command->add_flag("--json", run.json, "results as JSON, one object a line");
    command->add_option("--trace", run.trace,
                        "write a timeline of all ranks to this file, for ui.perfetto.dev");
    command->callback([&run, stage] { run.only = stage; });
    return command;
  };
  std::vector<CLI::App*> run_commands = {add_run_command(
      "run", "Every stage the file names, in order; what is done is not done again.", std::nullopt)};
  using experiment::Stage;
  for (const auto& [stage, what] :
       {std::pair{Stage::kFinetune, "Next-token training on text."},
        std::pair{Stage::kReward, "Train the reward model from preferences."},
        std::pair{Stage::kCalibrate, "Sample the reference policy and tabulate its rewards."},
        std::pair{Stage::kAlign, "Train the policy variants on the transformed reward."},
        std::pair{Stage::kEvaluate, "Win rates on held-out prompts."},
        std::pair{Stage::kReport, "Write report.html."},
        std::pair{Stage::kExport, "Write the policies as Hugging Face folders."}})
    run_commands.push_back(add_run_command(experiment::stage_name(stage), what, stage));

  auto* check = app.add_subcommand("check",
                                   "Validate a configuration and print it resolved, with sizes, work, memory "
                                   "per rank, disk and cost as comments below; touches nothing.\n"
                                   "Example: infalign check configs/quickstart.yaml --ranks 16");
  check->add_option("config", run.config, "YAML file of the experiment")->required();
  check->add_option("--set", run.overrides, "key.path=value: overrides the file (repeatable)")->take_all();
  CheckOptions checking;
  check->add_option("--ranks", checking.ranks, "ranks to plan for; those of mpirun if started by it, else 1")
      ->check(CLI::PositiveNumber);
  check->add_option("--gflops", checking.gflops, "speed of a rank, instead of measuring it here")
      ->check(CLI::PositiveNumber);
  check->add_flag("--json", run.json, "as one JSON object");

  auto* doctor =
      app.add_subcommand("doctor",
                         "Before a long run, on all ranks: the same program, processors, speed of exchange "
                         "and disk, clocks, and "
                         "whether `output` is one folder that all can write to.\n"
                         "Example: mpirun -n 16 --hostfile hosts infalign doctor configs/quickstart.yaml");
  doctor->add_option("config", run.config,
                     "YAML file of the experiment; without it the current folder is looked at");
  doctor->add_option("--set", run.overrides, "key.path=value: overrides the file (repeatable)")->take_all();
  doctor->add_flag("--json", run.json, "as one JSON object");

  stages::DesignOptions design_options;
  const auto* design = launch::add_design_command(app, design_options);

  stages::GenerateOptions generation;
  std::string model, prompt, prompts, chat_template, inputs = "-", path, device = "auto";
  bool json = false;
  auto* generate = app.add_subcommand(
      "generate",
      "Sample from a model folder, plainly or through an inference procedure.\n"
      "A procedure SPEC is name[:n][:key=value...], e.g. best_of_n:4, kth_of_n:8:k=7, "
      "retry_until:4:threshold=0.5, majority_vote:16.\n"
      "Example: infalign generate --model data/storyteller --prompt 'Once upon a time' --samples 3\n"
      "Example: infalign generate --model MODEL --reward REWARD --prompt TEXT --procedure best_of_n --n 4\n"
      "Example: infalign generate --model MODEL --prompt '2 + 2 = ' --procedure majority_vote:16 "
      "--answer '[0-9]+'");
  generate->add_option("--model", generation.model, "model folder")->required();
  add_adapter_option(*generate, generation.adapter);
  add_storage_option(*generate, generation.stored);
  add_device_option(*generate, device);
  generate->add_option("--prompt", prompt, "one prompt");
  generate->add_option("--prompts", prompts, "prompts as JSON lines");
  generate->add_option("--samples", generation.samples, "answers per prompt")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  generate->add_option("--max-new-tokens", generation.max_new_tokens, "length limit")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  generate->add_option("--temperature", generation.temperature, "of sampling")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  generate->add_option("--top-p", generation.top_p, "nucleus")
      ->check(CLI::Range(1e-6, 1.0))
      ->capture_default_str();
  generate->add_flag("--greedy", generation.greedy, "the most probable token each time");
  generate->add_option("--seed", generation.seed, "of the random numbers")->capture_default_str();
  generate->add_option("--procedure", generation.procedure, "SPEC: how the answer is chosen")
      ->capture_default_str();
  launch::add_procedure_keys(*generate, generation.keys);
  launch::add_procedure_key(*generate, generation.keys, "threshold",
                            "of retry_until: the reward that is good enough");
  generate->add_option("--reward", generation.reward, "reward model folder, by which the procedure chooses");
  generate->add_option("--reward-command", generation.reward_command,
                       "shell command of a program that gives the rewards (docs/rewards.md)");
  generate->add_option("--answer", generation.answer,
                       "of majority_vote: regular expression; its last match in a response is voted on");
  generate->add_flag("--verbose", generation.verbose, "the candidates and their rewards too");
  add_chat_template_option(*generate, chat_template);
  generate->add_flag("--json", generation.json, "one JSON object a line");

  stages::ScoreOptions scoring;
  auto* score = app.add_subcommand("score",
                                   "Log-probabilities and, with a reward head, rewards, as JSON lines.\n"
                                   "Example: echo '{\"text\": \"Once upon a time\"}' | infalign score "
                                   "--model data/storyteller --inputs -");
  score->add_option("--model", scoring.model, "model folder")->required();
  add_adapter_option(*score, scoring.adapter);
  add_storage_option(*score, scoring.stored);
  add_device_option(*score, device);
  score->add_option("--inputs", inputs, "JSON lines; - is standard input")->capture_default_str();
  score->add_flag("--json", json, "accepted for symmetry: the output is always JSON lines");

  add_chat_template_option(*score, scoring.chat_template);

  auto* tokenize =
      app.add_subcommand("tokenize",
                         "Text or messages to token ids and back, as JSON lines.\n"
                         "Example: echo '{\"text\": \"Once\"}' | infalign tokenize --model data/storyteller");
  tokenize->add_option("--model", model, "model folder")->required();
  tokenize->add_option("--inputs", inputs, "JSON lines; - is standard input")->capture_default_str();
  tokenize->add_flag("--json", json, "accepted for symmetry: the output is always JSON lines");

  add_chat_template_option(*tokenize, chat_template);

  auto* inspect = app.add_subcommand("inspect",
                                     "What is in a checkpoint, a calibration file or a model "
                                     "folder.\nExample: infalign inspect runs/quickstart/calibration.h5");
  inspect->add_option("path", path, "file or folder")->required();
  inspect->add_flag("--json", json, "as one JSON object");
  bool verify = false;
  inspect->add_flag("--verify", verify, "read every checksum and name the files that are damaged");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (distributed::launcher_rank() != 0) return error.get_exit_code() == 0 ? kDone : kUsage;
    return app.exit(error) == 0 ? kDone : kUsage;
  }
  try {
    for (const auto* command : run_commands)
      if (command->parsed()) return run_command(run, &argc, &argv);
    if (doctor->parsed()) return doctor_command(run, &argc, &argv);
    if (design->parsed()) {
      stages::design(design_options, std::cout);
      return kDone;
    }
    if (check->parsed()) {
      if (distributed::launcher_rank() == 0) check_command(run, checking);
    } else if (generate->parsed()) {
      generation.prompts = collect_prompts(prompt, prompts, generation.model, chat_template);
      stages::generate(stages::open_device(device), generation, std::cout);
    } else if (score->parsed()) {
      const auto on = stages::open_device(device);
      with_input(inputs, [&](std::istream& in, const std::string& name) {
        stages::score(on, scoring, in, name, std::cout);
      });
    } else if (tokenize->parsed()) {
      with_input(inputs, [&](std::istream& in, const std::string& name) {
        stages::tokenize(model, chat_template, in, name, std::cout);
      });
    } else if (inspect->parsed()) {
      if (verify) return verify_command(path, json);
      if (json)
        std::cout << json_text(storage::describe_json(path)) << std::endl;
      else
        std::cout << storage::describe(path);
    }
    return kDone;
  } catch (const std::exception& error) {
    std::cerr << "infalign: " << error.what() << std::endl;
    return exit_code(error);
  }
}
