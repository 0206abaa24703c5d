#include "core/stages/trace_file.h"

#include <algorithm>
#include <limits>

#include "core/json/json.h"
#include "core/storage/durable.h"
#include "kernels/trace.h"

namespace infalign::stages {

void write_trace(Run& run, const std::filesystem::path& file) {
  Json mine = Json::array();
  for (const auto& event : kernels::take_trace())
    mine.push_back({event.name, event.begin, event.end - event.begin, event.thread});
  const auto packed = Json::to_cbor(mine);
  const auto all = run.ranks.all_gather_bytes(std::as_bytes(std::span(packed)));
  run.from_root([&]() -> std::string {
    std::vector<Json> ranks;
    auto first = std::numeric_limits<std::int64_t>::max();
    for (const auto& bytes : all) {
      const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
      ranks.push_back(Json::from_cbor(std::vector<std::uint8_t>(data, data + bytes.size())));
      for (const auto& event : ranks.back()) first = std::min(first, event[1].get<std::int64_t>());
    }
    constexpr double kMicroseconds = 1e-3;  // of a nanosecond
    OrderedJson events = OrderedJson::array();
    for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
      events.push_back({{"name", "process_name"},
                        {"ph", "M"},
                        {"pid", rank},
                        {"args", {{"name", "rank " + std::to_string(rank)}}}});
      for (const auto& event : ranks[rank])
        events.push_back({{"name", event[0]},
                          {"ph", "X"},
                          {"ts", static_cast<double>(event[1].get<std::int64_t>() - first) * kMicroseconds},
                          {"dur", event[2].get<double>() * kMicroseconds},
                          {"pid", rank},
                          {"tid", event[3]}});
    }
    const OrderedJson trace{{"traceEvents", events}, {"displayTimeUnit", "ms"}};
    storage::write_file_durably(file, json_text(trace) + "\n");
    return "";
  });
}

}  // namespace infalign::stages
