#!/usr/bin/env bash
# The launch scripts parse, read their list of packages, and install exactly what is missing, with stand-ins for the system's programs.
#
#   scripts_test.sh REPOSITORY
set -euo pipefail
repository=$1
scripts=("$repository"/launch/{common.sh,quickstart,test,sanitize,fuzz,mpirun,slurm.sbatch} "$repository/.ci/run")
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
  [[ $script == *.sh || $script == *.sbatch ]] || expect "$script is executable" yes "$([[ -x $script ]] && echo yes)"
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
# install [test]: what install_missing_packages prints, and its exit status
install() {
  local status=0
  : >"$work/calls"
  PATH=$work/bin CALLS=$work/calls bash -euo pipefail -c 'source "$1"; install_missing_packages "${@:2}"' test "$repository/launch/common.sh" "$@" \
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

stand_in dpkg-query 'case "${@: -1}" in clang-tidy) exit 1 ;; *) echo installed ;; esac'
expect "missing for the tests alone: left out" "" "$(install >/dev/null; cat "$work/calls")"
expect "missing for the tests alone: installed for them" "apt-get install --yes --no-install-recommends clang-tidy" \
  "$(install test >/dev/null; tail -n 1 "$work/calls")"

stand_in dpkg-query 'case "${@: -1}" in cmake) exit 1 ;; gnuplot-nox) echo config-files ;; *) echo installed ;; esac'
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
  "$(source "$repository/launch/common.sh"; listed_packages test | grep -vxE '[a-z0-9][a-z0-9.+-]*' || true)"

# launch/mpirun, with a stand-in for mpirun that ends with one exit code after the other and notes its arguments.
cat >"$work/mpirun" <<'END'
#!/usr/bin/env bash
echo "$*" >>"$CALLS"
echo "$OMP_NUM_THREADS ${OMP_WAIT_POLICY:-unset} $INFALIGN_JOB_START" >>"$CALLS.environment"
read -r code rest <"$CODES"
echo "$rest" >"$CODES"
exit "$code"
END
# Which hosts are there: all but the one named "gone".
printf '#!/usr/bin/env bash\n[[ $1 != gone ]]\n' >"$work/remote"
chmod +x "$work/mpirun" "$work/remote"
# start CODES ARGUMENT...: launch/mpirun's exit code
start() {
  local codes=$1
  shift
  echo "$codes" >"$work/codes"
  : >"$work/calls"
  : >"$work/calls.environment"
  env -u OMP_WAIT_POLICY -u SLURM_JOB_START_TIME CALLS="$work/calls" CODES="$work/codes" INFALIGN=/bin/true MPIRUN="$work/mpirun" INFALIGN_REMOTE="$work/remote" \
    INFALIGN_BACKOFF=0 "$repository/launch/mpirun" "$@" >"$work/output" 2>&1
  echo $?
}
calls() { wc -l <"$work/calls"; }
expect "done at once" 0 "$(start "0" -n 2 run a.yaml)"
expect "the ranks and the command are handed on" "-n 2 /bin/true run a.yaml" "$(sed -e 's/--[a-z-]*\( none\| core\| slot:PE=[0-9]*\)\? //g' "$work/calls")"
for code in 2 3 75; do
  expect "exit code $code is passed on" $code "$(start "$code 0" -n 2 run a.yaml)"
  expect "exit code $code is not retried" 1 "$(calls)"
done
expect "a failure is retried" 0 "$(start "1 137 0" -n 2 run a.yaml)"
expect "a failure is retried until it is none" 3 "$(calls)"
expect "the time limit counts from the first start" 1 "$(sed 's/.* //' "$work/calls.environment" | sort -u | wc -l)"
expect "retried up to a limit: status" 1 "$(start "1 1 1 1 1" -n 2 --restarts 2 run a.yaml)"
expect "retried up to a limit: attempts" 3 "$(calls)"
expect "more threads than cores: those that wait do not spin" "2 passive" "$(start 0 -n 4096 --threads 2 run a.yaml >/dev/null; sed 's/ [0-9]*$//' "$work/calls.environment")"
printf 'one slots=2  # first\n\ngone slots=3\n' >"$work/hosts"
expect "with hosts, as many ranks as slots; a host that is gone is left out" 0 "$(start "1 0" --hostfile "$work/hosts" run a.yaml)"
expect "first all, then those that are left" "5 2" "$(sed -n 's/^-n \([0-9]*\) .*/\1/p' "$work/calls" | tr '\n' ' ' | sed 's/ $//')"
expect "the host that is left out is named" "mpirun: goes on without gone " "$(grep without "$work/output")"
printf 'gone\n' >"$work/hosts"
expect "no host left" 1 "$(start "1 0" --hostfile "$work/hosts" run a.yaml)"
expect "a host file without hosts" 1 "$(: >"$work/hosts"; start "0" --hostfile "$work/hosts" run a.yaml)"
expect "no command" "mpirun: which command? e.g. run configs/quickstart.yaml; see --help" "$(start 0 -n 2 >/dev/null; cat "$work/output")"

[[ $failures -eq 0 ]] && echo "launch scripts: all as expected"
exit $((failures > 0))
