#!/usr/bin/env bash
# The launch scripts parse, read their list of packages, and install exactly what is missing, with stand-ins for the system's programs.
#
#   scripts_test.sh REPOSITORY
set -euo pipefail
repository=$1
scripts=("$repository"/launch/{common.sh,quickstart,test,sanitize,fuzz} "$repository/.ci/run")
failures=0

# expect NAME WANTED GOT
expect() {
  if [[ $3 != "$2" ]]; then
    printf 'FAILED: %s\n  wanted: %s\n  got:    %s\n' "$1" "$2" "$3"
    failures=$((failures + 1))
  fi
}

for script in "${scripts[@]}"; do
  bash -n "$script" || failures=$((failures + 1))
  [[ $script == *.sh ]] || expect "$script is executable" yes "$([[ -x $script ]] && echo yes)"
done
if command -v shellcheck >/dev/null; then
  shellcheck --severity=warning --external-sources --source-path=SCRIPTDIR "${scripts[@]}" || failures=$((failures + 1))
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"
for program in bash sed tr grep cat mktemp rm dirname basename env; do ln -s "$(command -v $program)" "$work/bin/$program"; done

# stand_in NAME BODY: a program of that name, for the scripts to call
stand_in() {
  printf '#!/usr/bin/env bash\n%s\n' "$2" >"$work/bin/$1"
  chmod +x "$work/bin/$1"
}
# install: what install_missing_packages prints, and its exit status
install() {
  local status=0
  : >"$work/calls"
  PATH=$work/bin CALLS=$work/calls bash -euo pipefail -c 'source "$1"; install_missing_packages' test "$repository/launch/common.sh" \
    >"$work/output" 2>&1 || status=$?
  echo "$status"
}
stand_in apt-get 'echo "apt-get $*" >>"$CALLS"'

stand_in dpkg-query 'echo installed'
stand_in id 'echo 0'
expect "nothing missing: status" 0 "$(install)"
expect "nothing missing: silence" "" "$(cat "$work/output")"
expect "nothing missing: apt-get is left alone" "" "$(cat "$work/calls")"

stand_in dpkg-query 'case "${@: -1}" in cmake) exit 1 ;; gnuplot-nox) echo config-files ;; *) echo installed ;; esac'
expect "two missing, as root: status" 0 "$(install)"
expect "two missing, as root: only these are installed" "apt-get install --yes --no-install-recommends cmake gnuplot-nox" \
  "$(tail -n 1 "$work/calls")"

stand_in id 'echo 1000'
expect "not root, no sudo: status" 1 "$(install)"
expect "not root, no sudo: one line with the names" \
  "test: these packages are missing, and installing them takes root: apt-get install cmake gnuplot-nox" "$(cat "$work/output")"
expect "not root, no sudo: apt-get is left alone" "" "$(cat "$work/calls")"

stand_in sudo 'echo "sudo $1" >>"$CALLS"; "$@"'
expect "not root, with sudo: status" 0 "$(install)"
expect "not root, with sudo: installed through it" "sudo apt-get" "$(head -n 1 "$work/calls")"

stand_in apt-get 'echo "E: no network"; exit 100'
expect "apt-get fails: status" 1 "$(install)"
expect "apt-get fails: its words are shown" "E: no network" "$(sed -n 2p "$work/output")"

rm "$work/bin/dpkg-query"
expect "not Debian: status" 0 "$(install)"

expect "every listed package is a plain name" "" \
  "$(source "$repository/launch/common.sh"; listed_packages | grep -vxE '[a-z0-9][a-z0-9.+-]*' || true)"

[[ $failures -eq 0 ]] && echo "launch scripts: all as expected"
exit $((failures > 0))
