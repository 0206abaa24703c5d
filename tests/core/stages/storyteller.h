// The small model that comes with the project, as tests load it.
#pragma once

#include <filesystem>

namespace infalign {

inline const std::filesystem::path kStoryteller =
    std::filesystem::path(INFALIGN_SOURCE_DIR) / "data/storyteller";

}  // namespace infalign
