#include "launch/procedure_options.h"

namespace infalign::launch {

void add_procedure_key(CLI::App& command, std::map<std::string, std::string>& keys, const std::string& key,
                       const std::string& meaning) {
  command.add_option_function<std::string>(
      "--" + key, [&keys, key](const std::string& value) { keys[key] = value; }, meaning);
}

void add_procedure_keys(CLI::App& command, std::map<std::string, std::string>& keys) {
  add_procedure_key(command, keys, "n", "candidates of the procedure");
  add_procedure_key(command, keys, "k", "of kth_of_n: which, counted from the smallest");
  add_procedure_key(command, keys, "strength", "of soft_best_of_n: lambda");
  add_procedure_key(command, keys, "weights", "of best_of_random_n: shares of N = 1, 2, ...");
  add_procedure_key(command, keys, "quantile", "of above_quantile: keep only what is above");
}

}  // namespace infalign::launch
