# Sourced by the scripts of the bundle: where libraries come from. What the environment or the system names
# comes first, the bundle's own last.
root=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)

# The site's MPI wins: one on LD_LIBRARY_PATH, known to the loader, or beside an mpirun on PATH.
site_mpi=""
has_site_mpi() {
  local folder
  IFS=: read -r -a folders <<<"${LD_LIBRARY_PATH:-}"
  for folder in "${folders[@]}"; do [ -n "$folder" ] && [ -e "$folder/libmpi.so.40" ] && return 0; done
  if { ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null | grep -q 'libmpi\.so\.40'; then return 0; fi
  local launcher
  launcher=$(command -v mpirun || true)
  [ -n "$launcher" ] || return 1
  case $(readlink -f "$launcher") in "$root"/*) return 1 ;; esac
  site_mpi=$(dirname "$(dirname "$(readlink -f "$launcher")")")/lib
  [ -e "$site_mpi/libmpi.so.40" ]
}

append_libraries() { export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$1"; }

use_bundled_mpi() {
  append_libraries "$root/openmpi/lib"
  export OPAL_PREFIX="$root/openmpi" OPAL_PKGLIBDIR="$root/openmpi/lib/openmpi" OPAL_PKGDATADIR="$root/openmpi/share/openmpi"
  export PMIX_PKGLIBDIR="$root/openmpi/lib/pmix"
}

find_libraries() {
  if has_site_mpi; then
    [ -z "$site_mpi" ] || append_libraries "$site_mpi"
  else
    use_bundled_mpi
  fi
  append_libraries "$root/lib"
  # CUDA's own libraries, where nobody named them: the usual places.
  local folder
  for folder in "${CUDA_HOME:-/nowhere}/lib64" /usr/local/cuda/lib64 /usr/local/nvidia/lib64; do
    [ -d "$folder" ] && append_libraries "$folder"
  done
  export TESSERA_CUDA_PLUGIN="${TESSERA_CUDA_PLUGIN:-$root/lib/libtessera_cuda.so}"
}
