#include "core/stages/metrics.h"

#include "core/storage/durable.h"

namespace infalign::stages {

Metrics::Metrics(const std::filesystem::path& file, std::string stage, std::string variant,
                 std::int64_t first_step, bool enabled)
    : stage_(std::move(stage)), variant_(std::move(variant)) {
  if (!enabled) return;
  if (std::filesystem::exists(file)) {
    std::ifstream in(file);
    std::string kept, line;
    bool dropped = false;
    while (std::getline(in, line)) {
      const auto json = parse_json(line);
      const bool done_again =
          !json.is_object() || (json.value("stage", "") == stage_ && json.value("variant", "") == variant_ &&
                                json.value("step", std::int64_t{0}) >= first_step);
      if (done_again)
        dropped = true;
      else
        kept += line + "\n";
    }
    if (dropped) storage::write_file_durably(file, kept);
  }
  out_.open(file, std::ios::app);
  if (!out_) throw std::runtime_error(file.string() + ": cannot be opened for writing");
}

void Metrics::write(std::int64_t step, const OrderedJson& values) {
  if (!out_.is_open()) return;
  OrderedJson line{{"stage", stage_}, {"variant", variant_}, {"step", step}};
  line.update(values);
  out_ << json_text(line) << std::endl;
}

}  // namespace infalign::stages
