#include "core/storage/json_object.h"

#include "core/error.h"
#include "core/json/json.h"
#include "core/storage/durable.h"

namespace infalign::storage {

Json read_json_object(const std::filesystem::path& file) {
  Json object = parse_json(read_file(file));
  if (!object.is_object()) throw InputError(file.string() + ": not a JSON object");
  return object;
}

}  // namespace infalign::storage
