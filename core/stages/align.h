// Stage `align`: reinforce. KL-regularised policy gradient on the transformed calibrated reward, for each
// variant in turn, all on one calibration. The step reads as the paper does: sample, reward, calibrate,
// transform, advantage, gradient.
#pragma once

#include <vector>

#include "core/alignment/calibration.h"
#include "core/stages/problem.h"
#include "core/stages/run.h"

namespace infalign::stages {

/// Trains one variant from the reference policy; `parameters` receive the aligned policy on all ranks.
/// Errors: Stopped after a checkpoint on request; std::runtime_error for a sampler-trainer gap over the
/// limit.
void align_variant(Run& run, Problem& problem, const alignment::Calibration& calibration,
                   const experiment::Variant& variant, kernels::Buffer<float>& parameters);

/// What decides an aligned variant: a changed fingerprint trains it anew.
std::string alignment_fingerprint(const Run& run, const Problem& problem, const experiment::Variant& variant);

/// The parameters of a finished variant, whose policies are chosen, from its last checkpoint. Errors:
/// InputError when it is not there or not of this run. `beta` receives the KL weight at the end.
void load_aligned(const Run& run, Problem& problem, const experiment::Variant& variant,
                  kernels::Buffer<float>& parameters, double* beta = nullptr);

}  // namespace infalign::stages
