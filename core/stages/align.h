// Stage `align`: reinforce. KL-regularised policy gradient on the transformed calibrated reward, for each
// variant in turn, all on one calibration. The step reads as the paper does: sample, reward, calibrate,
// transform, advantage, gradient.
#pragma once

#include <vector>

#include "core/alignment/calibration.h"
#include "core/stages/problem.h"
#include "core/stages/run.h"

namespace infalign::stages {

/// Trains one variant from the reference policy; it is the problem's afterwards. Errors: Stopped after a
/// checkpoint on request; std::runtime_error for a sampler-trainer gap over the limit.
void align_variant(Run& run, Problem& problem, const alignment::Calibration& calibration,
                   const experiment::Variant& variant);

/// What decides an aligned variant: a changed fingerprint trains it anew.
std::string alignment_fingerprint(const Run& run, const Problem& problem, const experiment::Variant& variant);

/// Makes a finished variant the problem's policy, from its last checkpoint. Returns the KL weight at the end.
/// Errors: InputError when it is not there or not of this run.
double load_aligned(const Run& run, Problem& problem, const experiment::Variant& variant);
/// The last checkpoint of a finished variant, whose policies are chosen. Errors: as above.
storage::CheckpointReader open_aligned(const Run& run, Problem& problem, const experiment::Variant& variant);

}  // namespace infalign::stages
