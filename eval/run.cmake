# The half of eval/ that runs a model: evaluation modes, perplexity, generation.
vi_library(vi_eval_run
  SOURCES modes.cpp perplexity.cpp generate.cpp
  DEPS vi_decoder vi_cache vi_codec
  PRIVATE_DEPS OpenMP::OpenMP_CXX)
