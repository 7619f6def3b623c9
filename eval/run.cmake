# The half of eval/ that runs a model: evaluation modes, perplexity, generation.
vi_library(vi_eval_run
  SOURCES attention_statistics.cpp modes.cpp perplexity.cpp reconstructing.cpp batch_model.cpp generate.cpp generate_batch.cpp tune_codebooks.cpp
          kv_gradients.cpp logit_loss.cpp device_codec.cpp device_modes.cpp layer_errors.cpp step_model.cpp gpu_backend.cpp
  DEPS vi_decoder vi_cache vi_codec
  PRIVATE_DEPS OpenMP::OpenMP_CXX ${CMAKE_DL_LIBS})
