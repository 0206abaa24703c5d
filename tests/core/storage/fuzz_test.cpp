// Damaged weights must end in an InputError or be read: never in another exception, let alone a crash. Under
// the address and undefined-behaviour sanitizers this test says more.
#include "support/fuzz.h"

#include <fstream>
#include <numeric>

#include "core/storage/safetensors.h"
#include "core/storage/support.h"

namespace infalign::storage {
namespace {

using infalign::fuzzing::fuzz_inputs;
using infalign::fuzzing::FuzzCount;
using infalign::fuzzing::goes_through;
using infalign::fuzzing::MemoryFile;
using infalign::fuzzing::Mutator;
using Json = nlohmann::json;

const Json kHeader = Json::parse(R"({"__metadata__": {"format": "pt"},
  "b": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}, "h": {"dtype": "F16", "shape": [2, 1], "data_offsets": [2, 6]},
  "f": {"dtype": "F32", "shape": [2], "data_offsets": [6, 14]}, "none": {"dtype": "F32", "shape": [0, 3], "data_offsets": [14, 14]}})");

std::string file_of(const std::string& header) {
  const std::uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + header + std::string(14, '\x3f');
}

void read_everything(const std::filesystem::path& file) {
  const auto reader = SafetensorsReader::open_file(file);
  for (const auto& [name, tensor] : reader.tensors()) {
    std::vector<float> values(static_cast<std::size_t>(
        std::accumulate(tensor.shape.begin(), tensor.shape.end(), std::int64_t{1}, std::multiplies<>())));
    reader.read(name, tensor.shape, values);
  }
}

TEST(Fuzz, DamagedSafetensorsEndInInputErrors) {
  const MemoryFile file;
  Mutator mutator(5);
  FuzzCount count;
  for (int i = 0; i < fuzz_inputs(); ++i) {
    const std::string damaged =
        i % 2 ? mutator.bytes(file_of(kHeader.dump()))
              : file_of(mutator.values(kHeader).dump(-1, ' ', false, Json::error_handler_t::replace));
    file.write(damaged);
    SCOPED_TRACE(damaged);
    ASSERT_NO_THROW(count.add(goes_through([&] { read_everything(file.path()); })));
  }
  count.expect_both();
}

TEST(Fuzz, DamagedIndexesEndInInputErrors) {
  TemporaryFolder folder;
  const Json index =
      Json::parse(R"({"metadata": {"total_size": 14}, "weight_map": {"b": "model-1.safetensors",
    "h": "model-1.safetensors", "f": "model-1.safetensors", "none": "model-1.safetensors"}})");
  std::ofstream(folder / "model-1.safetensors", std::ios::binary) << file_of(kHeader.dump());
  Mutator mutator(6);
  FuzzCount count;
  for (int i = 0; i < fuzz_inputs(); ++i) {
    const std::string damaged =
        i % 2 ? mutator.bytes(index.dump())
              : mutator.values(index).dump(-1, ' ', false, Json::error_handler_t::replace);
    std::ofstream(folder / "model.safetensors.index.json", std::ios::binary) << damaged;
    SCOPED_TRACE(damaged);
    ASSERT_NO_THROW(count.add(goes_through([&] { SafetensorsReader::open_folder(folder / ""); })));
  }
  count.expect_both();
}

}  // namespace
}  // namespace infalign::storage
