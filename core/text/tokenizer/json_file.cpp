#include "core/text/tokenizer/json_file.h"

#include <fstream>
#include <iterator>
#include <vector>

#include "core/error.h"
#include "core/json/json.h"

namespace infalign::text {
namespace {

template <class Json>
Json parse_as(std::string_view text, const std::string& name, const typename Json::parser_callback_t& watch) {
  try {
    return Json::parse(text, watch);
  } catch (const typename Json::parse_error& error) {
    throw InputError(name + ": not valid JSON at byte " + std::to_string(error.byte));
  } catch (const typename Json::exception& error) {
    throw InputError(name + ": not valid JSON: " + error.what());
  }
}

}  // namespace

Json read_json_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw InputError(path.string() + ": cannot be opened");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (file.bad()) throw InputError(path.string() + ": cannot be read");
  return parse_json(text, path.string());
}

Json parse_json(std::string_view text, const std::string& name) {
  return parse_as<Json>(text, name, nullptr);
}

OrderedJson parse_ordered_json(std::string_view text, const std::string& name) {
  using Event = OrderedJson::parse_event_t;
  std::vector<int> keys;  // of each object or list that is open
  return parse_as<OrderedJson>(text, name, [&](int, Event event, const OrderedJson&) {
    if (event == Event::object_start || event == Event::array_start) {
      keys.push_back(0);
      if (keys.size() > 100) throw InputError(name + ": JSON of more than 100 levels");
    } else if (event == Event::object_end || event == Event::array_end) {
      keys.pop_back();
    } else if (event == Event::key && ++keys.back() > 1000) {
      throw InputError(name + ": a JSON object of more than 1000 keys");
    }
    return true;
  });
}

}  // namespace infalign::text
