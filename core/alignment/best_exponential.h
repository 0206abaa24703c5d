// The exponential transform as a one-parameter family: which t in e^(tu) wins most often at a KL, and how far
// it carries. It is the near-optimal transform that does not have to be solved again when beta moves.
#pragma once

#include <optional>

#include "core/alignment/deployment.h"
#include "core/alignment/theory.h"

namespace infalign::alignment {

struct BestExponential {
  double exponent = 0;    // t, to three digits, so that it can be written down
  Prediction prediction;  // normalised, at the KL
};
/// Both signs of t are tried, |t| rising around the number of candidates while it helps; the best is refined
/// by golden-section search on log |t|. Errors: std::invalid_argument for a deployment that is not
/// calibrated, std::runtime_error if no exponential reaches the KL.
BestExponential best_exponential(const Deployment& deployment, double kl);

/// The KL from `kl` up, to 5 percent, at which the optimal transform wins more often than e^(tu) by `margin`
/// or e^(tu) can go no farther; nothing up to `highest`.
std::optional<double> saturation_kl(const Deployment& deployment, double exponent, double kl,
                                    double margin = 0.01, double highest = 6);

}  // namespace infalign::alignment
