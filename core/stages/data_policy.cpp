#include "core/stages/data_policy.h"

#include "core/storage/durable.h"
#include "kernels/random/philox.h"

namespace infalign::stages {

double split_position(const std::string& prompt, std::uint32_t which) {
  return kernels::random_uniform({which, kernels::Purpose::kSplit},
                                 storage::Fingerprint().add(prompt).value(), 0, 0);
}

bool is_held_out(const std::string& prompt, double fraction) { return split_position(prompt, 1) < fraction; }

bool truncate_left(std::vector<std::int32_t>& ids, std::size_t most, std::optional<std::int32_t> bos) {
  if (ids.size() <= most) return false;
  const bool keeps_bos = bos && ids.front() == *bos && most > 1;
  ids.erase(ids.begin() + (keeps_bos ? 1 : 0),
            ids.end() - static_cast<std::ptrdiff_t>(most - (keeps_bos ? 1 : 0)));
  return true;
}

std::string counted(std::int64_t count, const std::string& what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

}  // namespace infalign::stages
