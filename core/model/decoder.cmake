# The torch side of core/model: CPU kernels and sampling (no torch), and the decoder on libtorch.
vi_library(vi_model_kernels
  SOURCES decoder_kernels.cpp decoder_attention.cpp decoder_lanes_scalar.cpp decoder_lanes_avx2.cpp
          decoder_lanes_avx512.cpp sampler.cpp
  DEPS vi_common
  PRIVATE_DEPS OpenMP::OpenMP_CXX)
# The one place where floating point is the product's time: optimised in every preset, each instruction set
# in a file of its own. Fused products are written out, so the compiler may not add any.
set_source_files_properties(decoder_kernels.cpp decoder_attention.cpp decoder_lanes_scalar.cpp
  PROPERTIES COMPILE_OPTIONS "-O3")
set_source_files_properties(decoder_lanes_avx2.cpp PROPERTIES COMPILE_OPTIONS "-O3;-mavx2;-mfma")
set_source_files_properties(decoder_lanes_avx512.cpp
  PROPERTIES COMPILE_OPTIONS "-O3;-mavx512f;-mavx512dq;-mavx512bw;-mavx512vl;-mfma")

vi_library(vi_model
  SOURCES decoder.cpp decoder_cpu.cpp decoder_plain.cpp
  DEPS vi_model_text vi_model_kernels vi_torch
  PRIVATE_DEPS OpenMP::OpenMP_CXX)
