#include "core/storage/hdf5_handle.h"

namespace infalign::storage {
namespace {

std::recursive_mutex& process_lock() {
  static std::recursive_mutex mutex;
  // Every handle here has an owner, so nothing is left to HDF5's clean-up at exit; after a damaged file it
  // would only print that it cannot free its own memory.
  static const herr_t no_exit_handler = H5dont_atexit();
  static_cast<void>(no_exit_handler);
  return mutex;
}

herr_t keep_first(unsigned, const H5E_error2_t* error, void* message) noexcept {
  auto* text = static_cast<std::string*>(message);
  if (text->empty() && error->desc) *text = error->desc;
  return 0;
}

}  // namespace

std::string hdf5_message() {
  std::string message;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &message);
  H5Eclear2(H5E_DEFAULT);
  return message.empty() ? "no reason given" : message;
}

Hdf5Session::Hdf5Session() : lock_(process_lock()) {
  H5Eget_auto2(H5E_DEFAULT, &printer_, &printer_data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Hdf5Session::~Hdf5Session() { H5Eset_auto2(H5E_DEFAULT, printer_, printer_data_); }

TypeHandle make_string_type() {
  TypeHandle type(H5Tcopy(H5T_C_S1), "H5Tcopy");
  hdf5_check(H5Tset_size(type, H5T_VARIABLE), "H5Tset_size");
  hdf5_check(H5Tset_cset(type, H5T_CSET_UTF8), "H5Tset_cset");
  return type;
}

}  // namespace infalign::storage
