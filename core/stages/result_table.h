// What a run found, in words and in a plain table: the end of a run on the terminal, and the first thing in
// the report.
#pragma once

#include <string>

#include "core/json/forward.h"
#include "core/stages/report/evaluation_record.h"

namespace infalign::stages {

/// The variants compared in one sentence or two, claiming only what the 95 % intervals carry: which beats
/// which, by how much, where two cannot be told apart, and whether they stand at the same KL, without which
/// the comparison is not fair.
std::string conclusion(const EvaluationRecord& evaluation);

/// evaluation.json as aligned text columns for a terminal, one line per variant, closed by the conclusion.
/// Ends with a newline. Errors: InputError for a JSON value that the evaluate stage cannot have written.
std::string result_table(const Json& evaluation);

}  // namespace infalign::stages
