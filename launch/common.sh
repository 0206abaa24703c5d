# shellcheck shell=bash
# What launch/quickstart and launch/test share: installing what is missing, building, and the settings mpirun needs.
# To be sourced by bash. Nothing here does again what is done already.

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$repository/build/release
installed=''  # yes: packages, by this call

fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

# listed_packages [test]: the package names of launch/packages, one a line; those below [test] only if asked for.
listed_packages() {
  local others='/^\[test\]/,$d'
  [[ ${1:-} != test ]] || others='/^\[test\]/d'
  sed -e 's/#.*//' -e "$others" -e '/^[[:space:]]*$/d' -e 's/[[:space:]]*$//' "$repository/launch/packages"
}

missing_packages() {
  local package
  listed_packages "$@" | while read -r package; do
    dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || echo "$package"
  done
}

# install_missing_packages [test]: installs the listed packages that are missing, if any. Elsewhere than on Debian and its children CMake says what it lacks.
install_missing_packages() {
  command -v dpkg-query >/dev/null || return 0
  local missing as_root=()
  missing=$(missing_packages "$@" | tr '\n' ' ')
  [[ -n $missing ]] || return 0
  if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null || fail "these packages are missing, and installing them takes root: apt-get install ${missing% }"
    as_root=(sudo)
  fi
  echo "installing ${missing% }" >&2
  local log
  log=$(mktemp)
  # shellcheck disable=SC2086  # one argument a package
  if ! { "${as_root[@]}" apt-get update && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
           apt-get install --yes --no-install-recommends $missing; } >"$log" 2>&1; then
    cat "$log" >&2
    fail "apt-get could not install ${missing% }"
  fi
  rm -f "$log"
  installed=yes
}

# Configures the release preset where that is not done, or there is more to be found now, and builds the given targets (all by default).
build_release() {
  local log
  if [[ ! -f $build/build.ninja || -n $installed ]]; then
    # A compiler of one's own in front of Debian's seldom knows Debian's MPI and HDF5; CXX overrules.
    if [[ -z ${CXX:-} && $(command -v c++) != /usr/bin/c++ && -x /usr/bin/g++ ]]; then export CXX=/usr/bin/g++; fi
    echo "configuring build/release" >&2
    mkdir -p "$build"
    log=$build/configure.log
    (cd "$repository" && cmake --preset release) >"$log" 2>&1 || { cat "$log" >&2; fail "CMake could not configure"; }
  fi
  echo "building in build/release" >&2
  local quiet=()
  [[ -t 1 ]] || quiet=(--quiet)
  ninja -C "$build" "${quiet[@]}" "$@" >&2 || fail "the build failed"
}

# Settings for ranks on this machine, as environment variables so that they reach every mpirun below. Other MPIs ignore them.
prepare_mpi() {
  if [[ $(id -u) -eq 0 ]]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
  export OMPI_MCA_rmaps_base_oversubscribe=${OMPI_MCA_rmaps_base_oversubscribe:-1}  # also on a machine with one core
  export OMPI_MCA_hwloc_base_binding_policy=${OMPI_MCA_hwloc_base_binding_policy:-none}  # a rank's threads need more than one
  # Containers forbid the system call behind single-copy messages; Open MPI then warns at each start.
  export OMPI_MCA_btl_vader_single_copy_mechanism=${OMPI_MCA_btl_vader_single_copy_mechanism:-none}
}

# The mpirun of the MPI that the program was built with.
mpirun_program() {
  sed -n 's/^MPIEXEC_EXECUTABLE:[A-Z]*=//p' "$build/CMakeCache.txt"
}
