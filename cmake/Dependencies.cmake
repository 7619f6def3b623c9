# Every dependency, with what to install when it is missing. `make setup` installs them all.
function(vi_require found name package)
  if(NOT ${found})
    message(FATAL_ERROR "${name} not found: run `make setup` (Debian package: ${package})")
  endif()
endfunction()

find_package(Threads REQUIRED)
# By name: with a full path CMake warns, a target at a time, that libtorch's own copy may be found instead.
set(OpenMP_gomp_LIBRARY gomp CACHE STRING "GNU OpenMP runtime")
find_package(OpenMP REQUIRED)
find_package(OpenSSL QUIET)
vi_require(OpenSSL_FOUND OpenSSL libssl-dev)
find_package(BLAS QUIET)
vi_require(BLAS_FOUND BLAS libopenblas-dev)
find_package(LAPACK QUIET)
vi_require(LAPACK_FOUND LAPACK libopenblas-dev)
find_package(faiss CONFIG QUIET)  # after OpenMP, BLAS and LAPACK: its config names their targets
vi_require(faiss_FOUND FAISS libfaiss-dev)
find_package(HDF5 QUIET COMPONENTS C)
vi_require(HDF5_FOUND HDF5 libhdf5-dev)
find_package(yaml-cpp CONFIG QUIET)
vi_require(yaml-cpp_FOUND yaml-cpp libyaml-cpp-dev)
find_package(CLI11 CONFIG QUIET)
vi_require(CLI11_FOUND CLI11 libcli11-dev)
find_package(Eigen3 CONFIG QUIET)
vi_require(Eigen3_FOUND Eigen3 libeigen3-dev)
find_package(nlohmann_json CONFIG QUIET)
vi_require(nlohmann_json_FOUND nlohmann-json nlohmann-json3-dev)
find_path(FMT_INCLUDE fmt/core.h)
vi_require(FMT_INCLUDE fmt libfmt-dev)
find_package(CURL QUIET)  # after HDF5, which links it too
vi_require(CURL_FOUND libcurl libcurl4-openssl-dev)
find_path(PCRE2_INCLUDE pcre2.h)
find_library(PCRE2_LIBRARY pcre2-8)
vi_require(PCRE2_LIBRARY PCRE2 libpcre2-dev)
find_path(GINAC_INCLUDE ginac/ginac.h)
find_library(GINAC_LIBRARY ginac)
find_library(CLN_LIBRARY cln)
vi_require(GINAC_LIBRARY GiNaC libginac-dev)

add_library(vi_hdf5 INTERFACE)
target_include_directories(vi_hdf5 SYSTEM INTERFACE ${HDF5_C_INCLUDE_DIRS})
target_link_libraries(vi_hdf5 INTERFACE ${HDF5_C_LIBRARIES})
target_compile_definitions(vi_hdf5 INTERFACE ${HDF5_C_DEFINITIONS})

# libtorch from the wheel that `make setup` unpacked. Imported by hand: the wheel's own CMake config
# refuses to load without a CUDA toolkit, and we link the CPU half only; the CUDA half is loaded when
# --device cuda asks for it (cuda/torch).
set(VI_TORCH ${VI_DEPS_DIR}/torch)
if(NOT EXISTS ${VI_TORCH}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "libtorch not found in ${VI_TORCH}: run `make setup`")
endif()
set(VI_TORCH_RPATH
  ${VI_TORCH}/lib ${VI_DEPS_DIR}/nvidia/cu13/lib ${VI_DEPS_DIR}/nvidia/cusparselt/lib
  ${VI_DEPS_DIR}/nvidia/nvshmem/lib)
add_library(vi_torch INTERFACE)
target_include_directories(vi_torch SYSTEM INTERFACE
  ${VI_TORCH}/include ${VI_TORCH}/include/torch/csrc/api/include)
target_link_libraries(vi_torch INTERFACE ${VI_TORCH}/lib/libtorch_cpu.so ${VI_TORCH}/lib/libc10.so)
foreach(dir IN LISTS VI_TORCH_RPATH)
  target_link_options(vi_torch INTERFACE -Wl,-rpath-link,${dir} -Wl,-rpath,${dir})
endforeach()

set(VI_HAS_CUDA OFF)
if(VI_ENABLE_CUDA)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    # Only 90 is measured. `all`: every part that a kernel of ours serves, for a build to hand out.
    set(VI_CUDA_ARCHITECTURES 90 CACHE STRING "CUDA architectures, e.g. 90 or 86;90, or all")
    if(VI_CUDA_ARCHITECTURES STREQUAL "all")
      set(VI_CUDA_ARCHITECTURES 80 86 89 90 100 120)
    endif()
    set(CMAKE_CUDA_ARCHITECTURES ${VI_CUDA_ARCHITECTURES})
    enable_language(CUDA)
    set(CMAKE_CUDA_STANDARD 17)  # CMake 3.25 rejects 20 with nvcc 13.0
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    find_package(CUDAToolkit REQUIRED)
    set(VI_HAS_CUDA ON)
  else()
    message(STATUS "nvcc not found: cuda/ is left out (--device cuda will say so)")
  endif()
endif()
